//! Tables of values as real connectors wrote them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bigdecimal::num_bigint::BigInt;

use super::*;

/// A row of one column `v` whose schema is this, written out.
fn written_out(schema: &str, raw: &str) -> Result<String, String> {
    let schema = format!(
        r#"{{"type":"struct","fields":[{{"type":"int32","optional":false,"field":"id"}},{{"field":"v",{schema}}}],"optional":false,"name":"Value"}}"#
    );
    let row = format!(r#"{{"id":7,"v":{raw}}}"#);
    let types = Types::of_schema(&schema, |_| true);
    let written =
        types.write_out(&row, |_| false).map_err(|reject| format!("{}: {}", reject.reason.as_str(), reject.detail))?;
    let value = written.strip_prefix(r#"{"id":7,"v":"#).and_then(|rest| rest.strip_suffix('}'));
    Ok(value.unwrap_or(&written).to_owned())
}

fn debezium(kind: &str, name: &str) -> String {
    format!(r#""type":"{kind}","optional":true,"name":"io.debezium.{name}","version":1"#)
}

fn decimal(scale: i64) -> String {
    format!(
        r#""type":"bytes","optional":true,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{{"scale":"{scale}","connect.decimal.precision":"65"}}"#
    )
}

#[test]
fn decimals_have_all_their_digits() {
    for (scale, raw, expected) in [
        (2, r#""BOI=""#, "12.50"),
        (2, r#""/w==""#, "-0.01"),
        (2, r#""AA==""#, "0.00"),
        (0, r#""AP//////////""#, "18446744073709551615"),
        (
            30,
            r#""4f1D4Wh6dCOTRq+nDL2z6cp02AGxNNZRxn7r""#,
            "-12345678901234567890123456789012345.012345678901234567890123456789",
        ),
        (-2, r#""BQ==""#, "500"),
        (2, "null", "null"),
        (2, "12.50", "12.50"),
        (10, "-1.2E-9", "-1.2E-9"),
    ] {
        assert_eq!(written_out(&decimal(scale), raw).as_deref(), Ok(expected), "{raw}");
    }
    // numeric(6,-2) of Postgres: 123500, with the scale that its connector gives it.
    let digits = "1235".to_owned() + &"0".repeat(2 + 2046);
    let raw = BASE64_STANDARD.encode(digits.parse::<BigInt>().unwrap().to_signed_bytes_be());
    assert_eq!(written_out(&decimal(2046), &format!("\"{raw}\"")).as_deref(), Ok("123500"));
}

#[test]
fn a_decimal_of_variable_scale_needs_no_schema() {
    let name = debezium("struct", "data.VariableScaleDecimal");
    let raw = r#"{"scale":19,"value":"ANg/8Fdd5Z+puzcLpeWtmCiuOYEV"}"#;
    let expected = "123456789012345678901234567890.1234567890123456789";
    assert_eq!(written_out(&name, raw).as_deref(), Ok(expected));
    let row = format!(r#"{{"id":7,"v":{raw},"w":[{raw},null],"x":{{"scale":"1","value":"AQ=="}}}}"#);
    let expected = format!(r#"{{"id":7,"v":{expected},"w":[{expected},null],"x":{{"scale":"1","value":"AQ=="}}}}"#);
    assert_eq!(write_out_unnamed(&row), expected);
    for row in [
        r#"{"v":"{\"scale\":1}"}"#,
        r#"{"v":{"scale":1,"value":"no base64"}}"#,
        r#"{"v":{"scale":1,"value":"AQ==","unit":"kg"}}"#,
    ] {
        assert_eq!(write_out_unnamed(row), row);
    }
}

#[test]
fn dates_and_times_are_written_out_without_a_zone_that_they_do_not_have() {
    for (kind, name, raw, expected) in [
        ("int32", "time.Date", "19782", "2024-02-29"),
        ("int32", "time.Date", "-354285", "1000-01-01"),
        ("int32", "time.Date", "2932896", "9999-12-31"),
        ("int32", "time.Date", "2932897", "+10000-01-01"),
        ("int32", "time.Date", "-703383", "0044-03-15"),
        ("int32", "time.Date", "-622191234", "infinity"),
        ("int32", "time.Date", "-625821272", "-infinity"),
        ("int32", "time.Date", "-2147472692", "infinity"),
        ("int32", "time.Date", "-2147472691", "-infinity"),
        ("int64", "time.Timestamp", "-30610224000000", "1000-01-01T00:00:00"),
        ("int64", "time.Timestamp", "1709251199120", "2024-02-29T23:59:59.120"),
        ("int64", "time.Timestamp", "9223372036825200", "infinity"),
        ("int64", "time.Timestamp", "-9223372036832400", "-infinity"),
        ("int64", "time.MicroTimestamp", "1709251199123456", "2024-02-29T23:59:59.123456"),
        ("int64", "time.MicroTimestamp", "-1", "1969-12-31T23:59:59.999999"),
        ("int64", "time.MicroTimestamp", "9223372036825200000", "infinity"),
        ("int64", "time.MicroTimestamp", "-9223372036832400000", "-infinity"),
        ("int64", "time.NanoTimestamp", "1709251199123456789", "2024-02-29T23:59:59.123456789"),
        ("int32", "time.Time", "86399500", "23:59:59.500"),
        ("int64", "time.MicroTime", "86400000000", "24:00:00"),
        ("int64", "time.MicroTime", "-3020399000000", "-838:59:59"),
        ("int64", "time.MicroTime", "90000500000", "25:00:00.500"),
        ("int64", "time.NanoTime", "1", "00:00:00.000000001"),
        ("string", "time.IsoDate", "\"2024-02-29Z\"", "2024-02-29"),
        ("string", "time.IsoTimestamp", "\"2024-02-29T23:59:59.123456Z\"", "2024-02-29T23:59:59.123456"),
        ("string", "time.IsoTime", "\"23:59:59.5Z\"", "23:59:59.5"),
        ("string", "time.ZonedTimestamp", "\"2024-02-29T18:29:59.654321Z\"", "2024-02-29T18:29:59.654321Z"),
        ("string", "time.ZonedTimestamp", "\"infinity\"", "infinity"),
        ("string", "time.ZonedTime", "\"08:00:00.5Z\"", "08:00:00.5Z"),
    ] {
        let expected = format!("\"{expected}\"");
        assert_eq!(written_out(&debezium(kind, name), raw).as_deref(), Ok(&*expected), "{name} {raw}");
    }
    for (kind, name, raw, expected) in [
        ("int32", "Date", "19782", "2024-02-29"),
        ("int32", "Time", "86399500", "23:59:59.500"),
        ("int64", "Timestamp", "1709251199120", "2024-02-29T23:59:59.120"),
    ] {
        let schema =
            format!(r#""type":"{kind}","optional":true,"name":"org.apache.kafka.connect.data.{name}","version":1"#);
        assert_eq!(written_out(&schema, raw).as_deref(), Ok(&*format!("\"{expected}\"")), "{name}");
    }
    assert_eq!(written_out(&debezium("int32", "time.Year"), "2155").as_deref(), Ok("2155"));
    assert_eq!(
        written_out(&debezium("int64", "time.MicroDuration"), "37091106789000").as_deref(),
        Ok("37091106789000")
    );
}

#[test]
fn bits_are_a_number_also_when_all_of_them_are_zero() {
    for (raw, expected) in [(r#""BQA=""#, "5"), (r#""AAE=""#, "256"), (r#""""#, "0")] {
        assert_eq!(written_out(&debezium("bytes", "data.Bits"), raw).as_deref(), Ok(expected));
    }
}

#[test]
fn lists_maps_and_structs_are_gone_through() {
    let items = |schema: &str| format!(r#""type":"array","items":{{{schema}}},"optional":true"#);
    for (schema, raw, expected) in [
        (items(&decimal(2)), r#"["bg==","AMg=",null]"#, "[1.10,2.00,null]"),
        (items(&debezium("int32", "time.Date")), "[19782,null]", r#"["2024-02-29",null]"#),
        (items(r#""type":"int32","optional":true"#), "[1, null,9007199254740993]", "[1, null,9007199254740993]"),
        (items(&decimal(2)), "[]", "[]"),
        (
            format!(r#""type":"map","keys":{{"type":"string"}},"values":{{{}}}"#, decimal(1)),
            r#"{"a":"Cw==","b":null}"#,
            r#"{"a":1.1,"b":null}"#,
        ),
        (
            format!(r#""type":"struct","fields":[{{"type":"string","field":"a"}},{{"field":"b",{}}}]"#, decimal(1)),
            r#"{"a":"x","b":"Cw=="}"#,
            r#"{"a":"x","b":1.1}"#,
        ),
    ] {
        assert_eq!(written_out(&schema, raw).as_deref(), Ok(expected), "{raw}");
    }
}

#[test]
fn what_cannot_be_written_out_exactly_is_refused_by_the_name_of_its_column() {
    let variable = debezium("struct", "data.VariableScaleDecimal");
    for (schema, raw, why) in [
        (decimal(2), "\"12.50\"", "is not in base64"),
        (decimal(2), "true", "is not in base64"),
        (decimal(16_384), "\"Aw==\"", "is beyond what Postgres numeric can hold"),
        (variable.clone(), r#"{"scale":-200000,"value":"AQ=="}"#, "is beyond what Postgres numeric can hold"),
        (
            variable.clone(),
            r#"{"scale":9223372036854775807,"value":"AQ=="}"#,
            "is beyond what Postgres numeric can hold",
        ),
        (variable, r#"{"scale":1}"#, "is not a decimal"),
        (debezium("int32", "time.Date"), "2145042905", "is a date beyond the calendar"),
        (debezium("int32", "time.Date"), "9223372036854775807", "is a date beyond the calendar"),
        (debezium("int32", "time.Date"), "1.5", "is not a whole number"),
        (debezium("int64", "time.MicroTimestamp"), "-9223372036853775810", "is a time beyond the calendar"),
        (debezium("int64", "time.MicroTimestamp"), "-9223372036854775808", "is a time beyond the calendar"),
        (debezium("int64", "time.Timestamp"), "9223372036854775807", "is a time beyond the calendar"),
        (debezium("bytes", "data.Bits"), "\"?\"", "is not in base64"),
        (format!(r#""type":"array","items":{{{}}}"#, decimal(2)), "{}", "is not a list"),
    ] {
        assert_eq!(written_out(&schema, raw), Err(format!("bad_value: column v {why}")), "{raw}");
    }
}

#[test]
fn only_what_is_wanted_is_written_out_and_placeholders_stay() {
    let schema = format!(r#"{{"fields":[{{"field":"a",{0}}},{{"field":"b",{0}}}]}}"#, decimal(2));
    let types = Types::of_schema(&schema, |column| column == "b");
    let row = r#"{"a":"no base64","b":"BOI="}"#;
    assert_eq!(types.write_out(row, |_| false).unwrap(), r#"{"a":"no base64","b":12.50}"#);
    assert_eq!(types.write_out(row, |raw| raw == "\"BOI=\"").unwrap(), row);
    assert_eq!(Types::of_schema(&schema, |_| false), Types::default());
    for odd in ["null", "[]", "7", r#"{"fields":7}"#, r#"{"type":"int32"}"#] {
        assert_eq!(Types::of_schema(odd, |_| true), Types::default(), "{odd}");
    }
}

#[test]
fn the_schema_of_an_envelope_is_that_of_its_row() {
    let fields = format!(r#"[{{"field":"v",{}}}]"#, decimal(2));
    let envelope = format!(
        r#"{{"type":"struct","fields":[{{"type":"struct","fields":{fields},"field":"before"}},{{"type":"struct","fields":{fields},"field":"after"}},{{"type":"string","field":"op"}}]}}"#
    );
    assert_eq!(Types::of_schema(&envelope, |_| true), Types::of_schema(&format!("{{\"fields\":{fields}}}"), |_| true));
    // A row that happens to have a column of that name.
    let row = format!(r#"{{"fields":[{{"type":"string","field":"after"}},{{"field":"v",{}}}]}}"#, decimal(2));
    assert_eq!(Types::of_schema(&row, |_| true).write_out(r#"{"v":"BOI="}"#, |_| false).unwrap(), r#"{"v":12.50}"#);
    assert_eq!(write_out_value(&format!("{{{}}}", decimal(0)), "\"BQ==\"").unwrap(), "5");
}
