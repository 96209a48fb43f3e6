//! From the bytes of a file to text: hashed on the way, unpacked, a byte-order mark read, brought to UTF-8.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Unpacked text may be this much...
const FREE_BYTES: u64 = 64 << 20;
/// ... or this many times the packed bytes; CSV packs at 5 to 50.
const MAX_RATIO: u64 = 200;
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
    digest: Rc<Digested>,
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
            Box::new(Unpacking { inner: MultiGzDecoder::new(file), unpacked: 0, digest: Rc::clone(&digest) })
        } else {
            Box::new(file)
        };
        let mut start = Vec::new();
        input.by_ref().take(3).read_to_end(&mut start)?;
        let (encoding, mark) = Encoding::for_bom(&start).unwrap_or((configured.unwrap_or(UTF_8), 0));
        let input = io::Cursor::new(start.split_off(mark)).chain(input);
        let input: Box<dyn Read> =
            if encoding == UTF_8 { Box::new(input) } else { Box::new(Transcoding::new(input, encoding)) };
        Ok(Self { input, encoding, digest })
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
    digest: Rc<Digested>,
}

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).map_err(|error| match error.kind() {
            _ if error.raw_os_error().is_some() => error,
            io::ErrorKind::Interrupted => error,
            io::ErrorKind::UnexpectedEof => damaged("the gzip file is cut off"),
            _ => damaged("the gzip file is damaged"),
        })?;
        self.unpacked += read as u64;
        if self.unpacked > FREE_BYTES && self.unpacked / MAX_RATIO > self.digest.bytes.get() {
            return Err(damaged("the gzip file unpacks to more than 200 times its size"));
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
