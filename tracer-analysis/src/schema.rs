//! The JSON Schemas in `docs/schema`, made from the types that are written and read.
//!
//! `UPDATE_SCHEMA=1 cargo test -p tracer-analysis schema` writes them anew.

use std::{env, fs, path::PathBuf};

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    connection::Connection,
    recording::{ClockStep, Header, Trailer},
    report::Report,
};

/// Fields that every recording of schema 1 has. Those that came later are not among them.
const CONNECTION: &str = "kind schema id host start seen_from family src sport dst dport netns cgroup pid \
    comm uid owners connect_us connect_error banner_us greeting_us banner_code banner_host tls \
    tls_handshake_us lifetime_us bytes_sent bytes_received retransmits srtt_us turns transactions \
    transactions_method transactions_exact replies transaction_spans_us idle_gaps_us \
    idle_max_survived_us end_cause end_during end_idle_us end_suspect reset_ttl peer_ttl keepalive \
    keepalive_idle_s";
const HEADER: &str = "kind schema version host kernel start hooks filters";
const TRAILER: &str = "kind schema host end connections trust";
const TRUST: &str = "events_lost map_full undecodable connections_lost";

type Object = Map<String, Value>;

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn document(
    title: &str,
    description: &str,
    mut root: Value,
    generator: &mut SchemaGenerator,
) -> Value {
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": description,
        "$defs": generator.take_definitions(true),
    });
    object(&mut document).extend(std::mem::take(object(&mut root)));
    tidy(&mut document);
    document
}

fn object(value: &mut Value) -> &mut Object {
    value.as_object_mut().unwrap()
}

/// What a reader of the schema has no use for: links in comments; and fields that not every version wrote
/// are not required.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
            }
            let later = |name: &str| fields["properties"][name].get("default").is_some();
            let required = fields.get("required").and_then(Value::as_array).map(|names| {
                let known = names.iter().filter(|name| !later(name.as_str().unwrap()));
                Value::Array(known.cloned().collect())
            });
            if let Some(required) = required {
                fields.insert("required".to_owned(), required);
            }
            fields.values_mut().for_each(tidy);
            if fields.contains_key("type") || fields.contains_key("$ref") {
                fields.remove("default");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Sets the fields that `definition` must have, and looks whether it knows them all.
fn require(document: &mut Value, definition: &str, names: &str) {
    let definition = &mut document["$defs"][definition];
    for name in names.split_whitespace() {
        assert!(definition["properties"].get(name).is_some(), "the schema has no field {name}");
    }
    definition["required"] = names.split_whitespace().collect();
}

/// `kind` is no field of the type: it is written in front of it.
fn add_kind(document: &mut Value, definition: &str, kind: &str) {
    let properties = object(&mut document["$defs"][definition]["properties"]);
    let description = format!("Always `{kind}`.");
    properties.insert("kind".to_owned(), json!({ "const": kind, "description": description }));
}

fn recording() -> Value {
    let mut generator = generator();
    let kinds = [
        schema::<Header>(&mut generator),
        schema::<Connection>(&mut generator),
        schema::<ClockStep>(&mut generator),
        schema::<Trailer>(&mut generator),
    ];
    let mut document = document(
        "A line of a recording of smtptrace",
        "Recordings are JSON Lines: a header, connections as they end, clock where the wall clock was \
         set, and a trailer if tracing ended cleanly. Names carry their unit; null is unknown, never 0. Newer versions may add fields.",
        json!({ "oneOf": kinds }),
        &mut generator,
    );
    add_kind(&mut document, "Header", "header");
    add_kind(&mut document, "ClockStep", "clock");
    add_kind(&mut document, "Trailer", "trailer");
    require(&mut document, "Header", HEADER);
    require(&mut document, "Connection", CONNECTION);
    require(&mut document, "Trailer", TRAILER);
    require(&mut document, "Trust", TRUST);
    document["$defs"]["Connection"]["properties"]["id"]["pattern"] = json!("^[0-9a-f]{16}$");
    document
}

fn report() -> Value {
    let mut generator = generator();
    let root = schema::<Report>(&mut generator);
    let mut document = document(
        "A report of smtptrace",
        "What `--format json` writes. Names carry their unit; null is unknown, never 0. Newer versions \
         may add fields, verdict codes and facts of evidence.",
        root,
        &mut generator,
    );
    require(&mut document, "Trust", &format!("{TRUST} midlife hooks overhead"));
    let required = document["$defs"]["Report"]["required"].as_array_mut().unwrap();
    required.extend([json!("kind"), json!("verdicts")]);
    document
}

#[test]
fn schemas_are_up_to_date() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
    for (name, schema) in [("recording.schema.json", recording()), ("report.schema.json", report())]
    {
        let path = directory.join(name);
        let made = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if env::var_os("UPDATE_SCHEMA").is_some() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&path, &made).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == made, "{name} is out of date; UPDATE_SCHEMA=1 writes it anew");
    }
}
