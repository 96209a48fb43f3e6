//! What becomes of text, row by row.

use std::io::Cursor;

use model::mapping::{Context, CustomerMapping, Mapping};
use model::{Credentials, InstallationKey};
use proptest::prelude::*;

use super::*;
use crate::text::Text;

fn mapping(json: &str) -> Mapping {
    let mapping: CustomerMapping = serde_json::from_str(json).unwrap();
    Mapping::Customer(mapping)
}

/// Columns id, name and n.
fn settings() -> Settings {
    let context =
        Context { credentials: Credentials::digest(&InstallationKey::new([7; 32])), timezone: chrono_tz::UTC };
    let mapping = mapping(r#"{"external_id": "id", "attributes": {"name": "name", "n": "n"}}"#);
    Settings::new("loyalty", "drop", "*.csv", mapping, context)
}

fn origin() -> Origin {
    let as_of = DateTime::from_timestamp(1_769_817_600, 0).unwrap();
    Origin {
        file_name: "members.csv".to_owned(),
        as_of,
        mtime: as_of,
        observed_at: as_of,
        is_accepted: false,
        is_assumed_utf8: true,
        mark: 0,
        is_seen: false,
    }
}

fn records(bytes: &[u8], settings: &Settings) -> Result<Vec<(Row, Taken)>, Stop> {
    records_of(bytes, settings, &origin())
}

fn records_of(bytes: &[u8], settings: &Settings, origin: &Origin) -> Result<Vec<(Row, Taken)>, Stop> {
    let text = Text::new(Cursor::new(bytes.to_vec()), settings.encoding)?;
    let mark = text.mark;
    let mut rows = RowReader::new(text, settings.max_record_bytes).starting_at(mark);
    let header = header::read(&mut rows, &settings.mapping, settings.delimiter, origin.is_accepted)?;
    let parser = Parser::new(settings, origin, &header);
    let mut taken = Vec::new();
    while let Some(row) = rows.next()? {
        taken.push((row, parser.read(&rows, &row)));
    }
    Ok(taken)
}

/// One word a row: `id=name` of a record, `-` of a skip, `reason@line/id` of a bad row.
fn read_with(bytes: &[u8], settings: &Settings) -> String {
    words(records(bytes, settings))
}

fn words(taken: Result<Vec<(Row, Taken)>, Stop>) -> String {
    match taken {
        Ok(taken) => taken.iter().map(word).collect::<Vec<_>>().join(" "),
        Err(Stop::Refused(refusal)) => format!("refused: {}", refusal.reason),
        Err(other) => format!("{other:?}"),
    }
}

fn word((row, taken): &(Row, Taken)) -> String {
    match taken {
        Taken::Record(record) => {
            let attributes: Value = serde_json::from_str(&record.mapped.attributes).unwrap();
            let _: Value = serde_json::from_str(record.payload.as_ref().unwrap()).unwrap();
            let name = attributes["name"].as_str().unwrap_or("NULL");
            format!("{}={name}", record.mapped.external_id.as_str())
        }
        Taken::Nothing => "-".to_owned(),
        Taken::Bad(reject, id) => {
            format!("{}@{}/{}", reject.reason.as_str(), row.line, id.as_deref().unwrap_or_default())
        }
    }
}

fn read(text: impl AsRef<[u8]>) -> String {
    read_with(text.as_ref(), &settings())
}

#[test]
fn rows_are_read_as_the_world_writes_them() {
    for (text, expected) in [
        // Line ends.
        ("id,name,n\n1,a,x\n2,b,y\n", "1=a 2=b"),
        ("id,name,n\r\n1,a,x\r\n2,b,y\r\n", "1=a 2=b"),
        ("id,name,n\r1,a,x\r2,b,y\r", "1=a 2=b"),
        ("id,name,n\n1,a,x\r\n2,b,y\n", "1=a 2=b"),
        ("id,name,n\n1,a,x\n2,b,y", "1=a 2=b"),
        ("id,name,n\r\n1,a,x\r\n2,b,y\r", "1=a 2=b"),
        // Nothing.
        ("id,name,n\n", ""),
        ("id,name,n", ""),
        ("", "refused: the file is empty: it has no header"),
        ("\n\n", "refused: the file is empty: it has no header"),
        ("\u{feff}", "refused: the file is empty: it has no header"),
        // Blank lines and repeated headers.
        ("id,name,n\n\n1,a,x\n\n", "- 1=a -"),
        ("id,name,n\n   \n1,a,x\n", "- 1=a"),
        ("id,name,n\n,,\n1,a,x\n", "- 1=a"),
        ("\n\nid,name,n\n1,a,x\n", "1=a"),
        ("id,name,n\n1,a,x\nid,name,n\n2,b,y\n", "1=a - 2=b"),
        // Quotes.
        ("id,name,n\n1,\"a\",x\n", "1=a"),
        ("id,name,n\n\"1\",\"a,b\",\"x\"\n", "1=a,b"),
        ("id,name,n\n1,\"a \"\"b\"\" c\",x\n", "1=a \"b\" c"),
        ("id,name,n\n1,\"\"\"\",x\n", "1=\""),
        ("id,name,n\n1,\"a\nb\",x\n2,c,y\n", "1=a\nb 2=c"),
        ("id,name,n\n1,\"a\r\nb\",x\r\n2,c,y\r\n", "1=a\r\nb 2=c"),
        ("id,name,n\n1,a\"b,x\n", "1=a\"b"),
        ("id,name,n\n1,\"a\"b,x\n", "1=ab"),
        ("id,name,n\n1, \"a\",x\n", "1= \"a\""),
        ("id,name,n\n1,\"a\",\"\"", "1=a"),
        ("\"id\",\"name\",\"n\"\n1,a,x\n", "1=a"),
        // Three states of a value.
        ("id,name,n\n1,,x\n", "1=NULL"),
        ("id,name,n\n1,\"\",x\n", "1=NULL"),
        ("id,name,n\n1,\\N,x\n", "1=NULL"),
        ("id,name,n\n0027,a,x\n", "0027=a"),
        ("id,name,n\n 1 ,a,x\n", " 1 =a"),
        ("id,name,n\n1,NULL,x\n", "1=NULL"),
        // Delimiters.
        ("id;name;n\n1;a,b;x\n", "1=a,b"),
        ("id\tname\tn\n1\ta\tx\n", "1=a"),
        ("id|name|n\n1|a|x\n", "1=a"),
        ("sep=;\nid;name;n\n1;a;x\n", "1=a"),
        ("sep=;\r\nid;name;n\r\n1;a;x\r\n", "1=a"),
        ("id,name,n,\n1,a,x,\n2,b,y\n", "1=a 2=b"),
        ("id,name,n\n1,a,x,\n", "1=a"),
        // Headers.
        (" ID , Name,N\n1,a,x\n", "1=a"),
        ("n,more,name,id\nx,m,a,1\n", "1=a"),
        ("id,name,n,more,more\n1,a,x,m,m\n", "1=a"),
        ("\u{feff}id,name,n\n1,a,x\n", "1=a"),
        ("\u{feff}\"id\",name,n\n1,a,x\n", "1=a"),
        ("id,name,n,Name\n1,a,x,b\n", "refused: ambiguous dialect: column name is there more than once"),
        ("id,n\n1,x\n", "refused: required columns missing: name"),
        ("number,text\n1,x\n", "refused: required columns missing: id, n, name"),
        ("1,a,x\n2,b,y\n", "refused: required columns missing: id, n, name"),
        ("id,\"name,n\n1,a,x\n", "refused: the header has a quote that is not closed"),
        // Bad rows and their neighbours.
        ("id,name,n\n1,a,x\n2,b\n3,c,z\n", "1=a ragged_row@3/2 3=c"),
        ("id,name,n\n1,a,x,y\n3,c,z\n", "ragged_row@2/1 3=c"),
        ("id,name,n\n1\n3,c,z\n", "ragged_row@2/1 3=c"),
        ("id,name,n\n,a,x\n3,c,z\n", "no_external_id@2/ 3=c"),
        ("id,name,n\n1,a\0,x\n3,c,z\n", "nul@2/1 3=c"),
        ("id,name,n\n1,a,x\n3,c", "1=a ragged_row@3/3"),
        // A stray quote swallows nobody.
        ("id,name,n\n1,a,x\n2,\"b,y\n3,c,z\n4,d,w\n", "1=a unclosed_quote@3/2 3=c 4=d"),
        ("id,name,n\n2,\"b,y", "unclosed_quote@2/2"),
        ("id,name,n\n2,\"b,y\n3,\"c\",z\n4,d,w\n", "unclosed_quote@2/2 3=c 4=d"),
        ("id,name,n\n2,\"b,y\n3,c\",z\n4,d,w\n", "2=b,y\n3,c 4=d"),
        ("id,name,n\n2,\"b,y\n3,c,z\n4,c,z\n5,c,z\n6,d\",w\n7,e,v\n", "unclosed_quote@2/2 3=c 4=c 5=c 6=d\" 7=e"),
        ("id,name,n\n2,b,\"y\n3,c,z\n4,d,w\n", "unclosed_quote@2/2 3=c 4=d"),
        ("id,name,n\n\"2,b,y\n3,c,z\n", "unclosed_quote@2/ 3=c"),
        ("id,name,n\r\n2,\"b,y\r\n3,c,z\r\n", "unclosed_quote@2/2 3=c"),
        ("id,name,n\n1,\"a\nb\",x\n2,\"c,y\n3,d,z\n", "1=a\nb unclosed_quote@4/2 3=d"),
        ("id,name,n\n2,\"b\nstill b\",y,z\n3,c,z\n", "unclosed_quote@2/2 still b\"=y 3=c"),
    ] {
        if text == "id,name,n\n1,NULL,x\n" {
            let settings = Settings { null_values: vec!["NULL".to_owned()], ..settings() };
            assert_eq!(read_with(text.as_bytes(), &settings), expected, "{text:?}");
        }
        assert_eq!(read(text), expected, "{text:?}");
    }
}

#[test]
fn encodings_are_told_and_never_guessed() {
    let text = "id,name,n\n1,Zoë,x\n2,b,y\n";
    let utf16 =
        |bytes: fn(u16) -> [u8; 2]| format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    assert_eq!(read(text), "1=Zoë 2=b");
    assert_eq!(read(utf16(u16::to_le_bytes)), "1=Zoë 2=b");
    assert_eq!(read(utf16(u16::to_be_bytes)), "1=Zoë 2=b");
    assert!(read(&utf16(u16::to_le_bytes)[2..]).starts_with("refused: the header holds 0x00"));
    let latin = b"id,name,n\n1,Zo\xeb,x\n2,b,y\n";
    assert_eq!(read(latin), "not_utf8@2/1 2=b");
    let configured = Settings { encoding: encoding_rs::Encoding::for_label(b"windows-1252"), ..settings() };
    assert_eq!(read_with(latin, &configured), "1=Zoë 2=b");
    // A mark is stronger than the configuration.
    assert_eq!(read_with(format!("\u{feff}{text}").as_bytes(), &configured), "1=Zoë 2=b");
    // Half a surrogate pair: one bad row, not a bad file.
    let mut broken = utf16(u16::to_le_bytes);
    let at = broken.windows(2).position(|pair| pair == [0xeb, 0]).unwrap();
    broken[at..at + 2].copy_from_slice(&[0x00, 0xd8]);
    assert_eq!(read(broken), "not_utf8@2/1 2=b");
    let shift_jis = Settings { encoding: encoding_rs::Encoding::for_label(b"shift_jis"), ..settings() };
    assert_eq!(read_with(b"id,name,n\n1,\x93\xfa,x\n2,\x81,y\n", &shift_jis), "1=日 not_utf8@3/2");
}

#[test]
fn long_rows_are_cut_and_their_neighbours_live() {
    let settings = Settings { max_record_bytes: 1_000, ..settings() };
    let long = "a".repeat(999);
    let endless = "a".repeat(3 << 20);
    for (text, expected) in [
        (format!("id,name,n\n1,{long},x\n2,b,y\n"), "too_large@2/1 2=b"),
        (format!("id,name,n\n1,{endless},x\n2,b,y\n"), "too_large@2/1 2=b"),
        (format!("id,name,n\n1,\"{endless}\",x\n2,b,y\n"), "too_large@2/1 2=b"),
        (format!("id,name,n\r\n1,{endless},x\r\n2,b,y\r\n"), "too_large@2/1 2=b"),
        (format!("id,name,n\n1,{endless}"), "too_large@2/1"),
        (format!("{endless}\n"), "refused: the header is longer than max_record_bytes"),
    ] {
        assert_eq!(read_with(text.as_bytes(), &settings), expected, "{text:.40}");
    }
}

#[test]
fn a_quote_that_is_open_for_too_long_is_doubted() {
    let filler = "some words\n".repeat(1_100);
    let text = format!("id,name,n\n1,\"a\n{filler}\",x\n2,b,y\n");
    let read = read(text);
    assert!(read.starts_with("unclosed_quote@2/1 ragged_row@3"), "{read:.80}");
    assert!(read.ends_with("2=b"), "neighbours live");
}

#[test]
fn a_stray_quote_in_a_large_file_costs_one_row() {
    let row = |id: usize| if id == 500 { format!("{id},\"Boston,x\n") } else { format!("{id},a,x\n") };
    let text = "id,name,n\n".to_owned() + &(0..20_000).map(row).collect::<String>();
    let read = read(text);
    assert_eq!(read.split(' ').filter(|word| word.contains('=')).count(), 19_999);
    assert_eq!(read.matches("unclosed_quote@502/500").count(), 1);
}

#[test]
fn packed_files_are_read_and_damaged_ones_refused() {
    use std::io::Write;
    let pack = |bytes: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    };
    let packed = pack(b"id,name,n\n1,a,x\n2,b,y\n");
    assert_eq!(read(&packed), "1=a 2=b");
    assert_eq!(read([pack(b"id,name,n\n1,a,x\n"), pack(b"2,b,y\n")].concat()), "1=a 2=b");
    assert_eq!(read(&packed[..packed.len() - 6]), "refused: the gzip file is cut off: have it sent again");
    let damaged = "refused: the gzip file is damaged: have it sent again";
    assert_eq!(read([&packed[..], b"\x1f\x8b-not-a-member-"].concat()), damaged);
    let mut flipped = packed.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    assert_eq!(read(flipped), damaged);
    let bomb = pack(&[b"id,name,n\n".as_slice(), &vec![b'a'; 100 << 20]].concat());
    assert!(read(bomb).starts_with("refused: the gzip file unpacks to more than 200 times its size"));
}

#[test]
fn aliases_and_joined_columns_find_their_headers() {
    let mut settings = settings();
    settings.mapping = mapping(
        r#"{"external_id": {"any": ["member id", "ID"]}, "email": {"any": ["e-mail", "email"]}, "credential": "Password",
            "attributes": {"name": ["First", "last"], "n": "first"}}"#,
    );
    let text = b"id,EMAIL,FIRST,LAST,password\n1,a@x.com,Ann,Lee,secret\n";
    assert_eq!(read_with(text, &settings), "1=Ann Lee");
    let taken = records(text, &settings).unwrap_or_default();
    let Taken::Record(record) = &taken[0].1 else { panic!("a record") };
    assert_eq!(record.mapped.email.as_deref(), Some("a@x.com"));
    assert!(record.mapped.attributes.contains(r#""n":"Ann""#), "two spellings of one column");
    let payload = record.payload.as_deref().unwrap();
    assert!(payload.starts_with(r#"{"id":"1","EMAIL":"a@x.com","FIRST":"Ann","LAST":"Lee","password":""#), "{payload}");
    assert!(!payload.contains("secret"));
    assert_eq!(
        read_with(b"id,FIRST,password\n1,Ann,s\n", &settings),
        "refused: required columns missing: e-mail or email, last"
    );
}

#[test]
fn a_header_that_fits_several_delimiters_is_refused() {
    let mut settings = settings();
    settings.mapping = mapping(r#"{"external_id": "id"}"#);
    assert_eq!(read_with(b"id\n1\n", &settings), "1=NULL");
    assert!(read_with(b"a,id;b,id;c\n1\n", &settings).starts_with("refused: required columns missing"));
    let text = b"x;id;y,id,z\n1;2;3\n4,5,6\n";
    assert!(read_with(text, &settings).starts_with("refused: ambiguous dialect"));
    settings.delimiter = Some(b';');
    assert_eq!(read_with(text, &settings), "2=NULL ragged_row@3/");
}

/// [`read_with`] of a file that an operator takes as it is.
fn accepted(text: &str, settings: &Settings) -> String {
    words(records_of(text.as_bytes(), settings, &Origin { is_accepted: true, ..origin() }))
}

#[test]
fn an_accepted_header_may_lack_columns_and_fit_in_several_ways() {
    let settings = settings();
    // What is not there is absent: it keeps what is known.
    let taken = records_of(b"id;n\n1;x\n", &settings, &Origin { is_accepted: true, ..origin() }).unwrap_or_default();
    let Taken::Record(record) = &taken[0].1 else { panic!("a record") };
    assert_eq!(record.mapped.attributes, r#"{"n":"x"}"#);
    assert_eq!(accepted("id,name,n,Name\n1,a,x,b\n", &settings), "1=b");
    assert_eq!(accepted("name,n\na,x\n", &settings), "refused: required columns missing: id");
    assert_eq!(accepted("", &settings), "refused: the file is empty: it has no header");
    let by_id = Settings { mapping: mapping(r#"{"external_id": "id"}"#), ..settings };
    assert_eq!(accepted("x;id;y,id,z\n1;2;3\n4,5,6\n", &by_id), "ragged_row@2/ 5=NULL", "the first of several");
}

#[test]
fn a_password_that_is_there_twice_is_replaced_twice() {
    let mut settings = settings();
    settings.mapping = mapping(r#"{"external_id": "id", "credential": "password"}"#);
    let text = b"id,Password,PASSWORD\n1,canary1,canary2\n";
    assert!(read_with(text, &settings).starts_with("refused: ambiguous dialect"));
    let taken = records_of(text, &settings, &Origin { is_accepted: true, ..origin() }).unwrap_or_default();
    let Taken::Record(record) = &taken[0].1 else { panic!("a record") };
    assert!(record.mapped.credential.is_some());
    assert!(!format!("{record:?}").contains("canary"), "{record:?}");
}

#[test]
fn rows_and_headers_with_a_million_columns_are_bad_and_cost_nothing_else() {
    let columns = ",".repeat(1_000_000);
    assert_eq!(read(format!("id,name,n\n1,a,x{columns}\n2,b,y\n")), "ragged_row@2/1 2=b");
    assert_eq!(read(format!("id,name,n{columns}\n1,a,x\n")), "refused: the header has more than 4096 columns");
    assert_eq!(
        read(format!("id,name,n{}\n", columns.repeat(2))),
        "refused: the header is longer than max_record_bytes"
    );
    let wide = (0..4_093).fold(String::new(), |wide, column| wide + &format!(",c{column}"));
    assert_eq!(read(format!("id,name,n{wide}\n1,a,x{}\n", ",".repeat(4_093))), "1=a", "wide, and a file");
}

#[test]
fn null_and_empty_are_kept_apart_and_both_clear() {
    let taken = records(b"id,name,n\n1,\\N,\n2,NULL,\"\"\n", &settings()).unwrap_or_default();
    let found = taken.iter().map(|(_, taken)| match taken {
        Taken::Record(record) => (record.payload.as_deref().unwrap_or_default(), &*record.mapped.attributes),
        _ => ("", ""),
    });
    let expected = [
        (r#"{"id":"1","name":null,"n":""}"#, r#"{"n":null,"name":null}"#),
        (r#"{"id":"2","name":"NULL","n":""}"#, r#"{"n":null,"name":"NULL"}"#),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn what_would_harm_a_spreadsheet_a_page_or_a_database_lands_as_it_is() {
    for text in [
        "=HYPERLINK(\"http://x\")",
        "+1",
        "-1",
        "@SUM(A1)",
        "<script>alert(1)</script>",
        "'); drop table t; --",
        "\\",
        "$1",
    ] {
        let quoted = text.replace('"', "\"\"");
        assert_eq!(read(format!("id,name,n\n\"{quoted}\",\"{quoted}\",x\n")), format!("{text}={text}"));
    }
}

#[test]
fn places_of_bad_rows_are_lines_and_bytes_of_the_file() {
    let text = b"id,name,n\r\n1,\"a\r\nb\",x\r\n2,b\r\n3,c,z\r\n";
    let taken = records(text, &settings()).unwrap_or_default();
    let places: Vec<_> = taken.iter().map(|(row, _)| (row.line, row.last_line, row.byte_offset)).collect();
    assert_eq!(places, [(2, 3, 11), (4, 4, 23), (5, 5, 28)]);
    let marked = [b"\xef\xbb\xbf", &text[..]].concat();
    let taken = records(&marked, &settings()).unwrap_or_default();
    let (row, _) = &taken[1];
    assert!(marked[usize::try_from(row.byte_offset).unwrap()..].starts_with(b"2,b\r\n"), "a mark is bytes of the file");
}

/// Gives bytes in small pieces, so that every boundary falls everywhere.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

proptest! {
    #[test]
    fn whatever_a_csv_writer_writes_lands_exactly(
        rows in prop::collection::vec((0_u32..1_000_000, ".{0,20}", "[a\",;\\n\\r é]{0,12}"), 0..40),
        crlf: bool,
        piece in 1_usize..50,
    ) {
        let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
        writer.write_record(["id", "name", "n"]).unwrap();
        for (id, name, n) in &rows {
            writer.write_record([&id.to_string(), name, n]).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let (landed, settings) = (std::cell::Cell::new(0), settings());
        let mut covered = 0;
        let counts = parse(Dribble(&bytes, piece), &settings, &origin(), |_| {}, |part| {
            landed.set(landed.get() + u64::from(part.batch.record_count().unsigned_abs()));
            covered += part.rows.unsigned_abs();
            ControlFlow::Continue(())
        });
        let counts = counts.unwrap_or_default();
        prop_assert_eq!(counts.rows, rows.len() as u64);
        prop_assert_eq!(covered, counts.rows);
        prop_assert_eq!(landed.get() + counts.dead + counts.skipped, counts.rows);
        let expected_dead = rows.iter().filter(|(_, name, n)| name.contains('\0') || n.contains('\0')).count() as u64;
        prop_assert_eq!((counts.dead, counts.skipped), (expected_dead, 0));
    }

    #[test]
    fn no_bytes_whatsoever_panic_or_get_lost(bytes in prop::collection::vec(prop::sample::select(b"1a,\"\n\r\0\xff ".to_vec()), 0..200), piece in 1_usize..9) {
        let text = [b"id,name,n\n", &bytes[..]].concat();
        let settings = Settings { max_record_bytes: 40, ..settings() };
        let mut landed = 0;
        let counts = parse(Dribble(&text, piece), &settings, &origin(), |_| {}, |part| {
            landed += u64::from(part.batch.record_count().unsigned_abs());
            ControlFlow::Continue(())
        });
        let counts = counts.unwrap_or_default();
        prop_assert_eq!(landed + counts.dead + counts.skipped, counts.rows);
    }
}
