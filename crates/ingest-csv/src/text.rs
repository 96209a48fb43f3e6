//! From the bytes of a file to text: hashed on the way, unpacked, a byte-order mark read, brought to UTF-8.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// How much a packed file may unpack to.
const CAPS: Caps = Caps { free_bytes: 64 << 20, max_ratio: 200, max_bytes: 256 << 30 };
/// What stands in the text for bytes that the encoding does not know: no UTF-8 either, so that their row is found out.
const UNREADABLE: u8 = 0xff;

/// A file that cannot be unpacked; its text may be cut off anywhere, so nothing of it may be published.
#[derive(Debug)]
pub(crate) struct Damaged(pub(crate) &'static str);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Damaged {}

/// The text of a file.
pub(crate) struct Text {
    input: Box<dyn Read>,
    /// In which encoding the file is.
    pub(crate) encoding: &'static Encoding,
    /// Whether neither a mark nor the configuration said so: it is read as UTF-8 for want of anything better.
    pub(crate) is_assumed: bool,
    /// How many bytes stand before the first one of the text: a mark is none of it.
    pub(crate) mark: u64,
    digest: Rc<Digested>,
}

/// Beyond these a packed file is taken for a bomb. What is not packed has none: it takes the disk that it takes.
#[derive(Clone, Copy)]
struct Caps {
    /// Unpacked text may be this much...
    free_bytes: u64,
    /// ... or this many times the packed bytes (CSV packs at 5 to 50)...
    max_ratio: u64,
    /// ... and in no case more than this.
    max_bytes: u64,
}

/// What went through.
#[derive(Default)]
struct Digested {
    hash: RefCell<Sha256>,
    bytes: Cell<u64>,
}

impl Text {
    /// Opens the text. A byte-order mark decides its encoding, else `configured`, else it is UTF-8.
    pub(crate) fn new(file: impl Read + 'static, configured: Option<&'static Encoding>) -> io::Result<Self> {
        let digest = Rc::new(Digested::default());
        let mut file = Hashing { inner: file, digest: Rc::clone(&digest) };
        let mut start = Vec::new();
        file.by_ref().take(2).read_to_end(&mut start)?;
        let is_packed = start == GZIP_MAGIC;
        let file = io::Cursor::new(start).chain(file);
        let mut input: Box<dyn Read> = if is_packed {
            Box::new(Unpacking {
                inner: MultiGzDecoder::new(file),
                unpacked: 0,
                caps: CAPS,
                digest: Rc::clone(&digest),
            })
        } else {
            Box::new(file)
        };
        let mut start = Vec::new();
        input.by_ref().take(3).read_to_end(&mut start)?;
        let (encoding, mark) = Encoding::for_bom(&start).unwrap_or((configured.unwrap_or(UTF_8), 0));
        let input = io::Cursor::new(start.split_off(mark)).chain(input);
        let is_assumed = mark == 0 && configured.is_none();
        if encoding == UTF_8 {
            return Ok(Self { input: Box::new(input), encoding, is_assumed, mark: mark as u64, digest });
        }
        // Offsets are those of the text in UTF-8, which has no mark.
        Ok(Self { input: Box::new(Transcoding::new(input, encoding)), encoding, is_assumed, mark: 0, digest })
    }

    /// How many bytes of the file were read so far.
    pub(crate) fn bytes_read(&self) -> impl Fn() -> u64 + 'static {
        let digest = Rc::clone(&self.digest);
        move || digest.bytes.get()
    }

    /// SHA-256 of the bytes of the file that were read so far, in hex.
    pub(crate) fn sha256(&self) -> impl Fn() -> String + 'static {
        let digest = Rc::clone(&self.digest);
        move || hex::encode(digest.hash.borrow().clone().finalize())
    }
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

struct Hashing<R> {
    inner: R,
    digest: Rc<Digested>,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.digest.hash.borrow_mut().update(&buffer[..read]);
        self.digest.bytes.set(self.digest.bytes.get() + read as u64);
        Ok(read)
    }
}

struct Unpacking<R> {
    inner: MultiGzDecoder<R>,
    unpacked: u64,
    caps: Caps,
    digest: Rc<Digested>,
}

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).map_err(|error| match error.kind() {
            _ if error.raw_os_error().is_some() => error,
            io::ErrorKind::Interrupted => error,
            io::ErrorKind::UnexpectedEof => damaged("the gzip file is cut off: have it sent again"),
            _ => damaged("the gzip file is damaged: have it sent again"),
        })?;
        self.unpacked += read as u64;
        let Caps { free_bytes, max_ratio, max_bytes } = self.caps;
        if self.unpacked > free_bytes && self.unpacked / max_ratio > self.digest.bytes.get() {
            return Err(damaged(
                "the gzip file unpacks to more than 200 times its size: if that is right, unpack it first",
            ));
        }
        if self.unpacked > max_bytes {
            return Err(damaged("the gzip file unpacks to more than 256 GiB: if that is right, unpack it first"));
        }
        Ok(read)
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Damaged(what))
}

struct Transcoding<R> {
    inner: R,
    decoder: Decoder,
    raw: Vec<u8>,
    raw_start: usize,
    raw_end: usize,
    at_eof: bool,
    is_done: bool,
    ready: Vec<u8>,
    ready_start: usize,
}

impl<R: Read> Transcoding<R> {
    fn new(inner: R, encoding: &'static Encoding) -> Self {
        Self {
            inner,
            decoder: encoding.new_decoder_without_bom_handling(),
            raw: vec![0; 64 << 10],
            raw_start: 0,
            raw_end: 0,
            at_eof: false,
            is_done: false,
            ready: Vec::new(),
            ready_start: 0,
        }
    }

    fn decode_more(&mut self) -> io::Result<()> {
        if self.raw_start == self.raw_end && !self.at_eof {
            (self.raw_start, self.raw_end) = (0, self.inner.read(&mut self.raw)?);
            self.at_eof = self.raw_end == 0;
        }
        self.ready.resize(self.raw.len() * 3 + 16, 0);
        self.ready_start = 0;
        let raw = &self.raw[self.raw_start..self.raw_end];
        let room = self.ready.len() - 1;
        let (result, read, written) =
            self.decoder.decode_to_utf8_without_replacement(raw, &mut self.ready[..room], self.at_eof);
        self.raw_start += read;
        self.ready.truncate(written);
        match result {
            DecoderResult::Malformed(..) => self.ready.push(UNREADABLE),
            DecoderResult::InputEmpty => self.is_done = self.at_eof,
            DecoderResult::OutputFull => {}
        }
        Ok(())
    }
}

impl<R: Read> Read for Transcoding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready_start == self.ready.len() {
            if self.is_done {
                return Ok(0);
            }
            self.decode_more()?;
        }
        let read = (&self.ready[self.ready_start..]).read(buffer)?;
        self.ready_start += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_packed_file_unpacks_to_so_much_and_no_more() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        // Of few repetitions, so that no ratio is suspicious.
        let text: Vec<u8> = (0..100_000_u32).flat_map(|number| format!("{number},").into_bytes()).collect();
        packer.write_all(&text).unwrap();
        let file = packer.finish().unwrap();
        let with_caps = |caps| {
            let digest = Rc::new(Digested::default());
            let bytes = Hashing { inner: io::Cursor::new(file.clone()), digest: Rc::clone(&digest) };
            let mut reader = Unpacking { inner: MultiGzDecoder::new(bytes), unpacked: 0, caps, digest };
            let mut read = Vec::new();
            reader.read_to_end(&mut read).map(|_| read).map_err(|error| error.to_string())
        };
        let size = text.len() as u64;
        assert_eq!(with_caps(Caps { free_bytes: 0, max_ratio: 200, max_bytes: size }).as_ref(), Ok(&text));
        let over = with_caps(Caps { free_bytes: 0, max_ratio: 200, max_bytes: size - 1 }).unwrap_err();
        assert!(over.contains("more than 256 GiB"), "{over}");
        let suspicious = with_caps(Caps { free_bytes: 0, max_ratio: 1, max_bytes: size }).unwrap_err();
        assert!(suspicious.contains("200 times its size"), "{suspicious}");
    }
}
