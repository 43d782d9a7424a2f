use std::{collections::BTreeSet, sync::LazyLock};

use apollo_compiler::{
    ExecutableDocument, Schema,
    schema::{
        ExtendedType::{Enum, InputObject, Interface, Object, Scalar, Union},
        FieldDefinition,
    },
    validation::Valid,
};
use serde_json::Value;

/// The part of Linear's schema that the fake serves.
pub const SCHEMA: &str = include_str!("schema.graphql");

pub(super) static PARSED: LazyLock<Valid<Schema>> = LazyLock::new(|| {
    Schema::parse_and_validate(SCHEMA, "schema.graphql").unwrap_or_else(|error| panic!("{error}"))
});

/// Checks a document of operations against a schema. The error names every fault in it.
pub fn validate_document(sdl: &str, document: &str) -> Result<(), String> {
    let schema = Schema::parse_and_validate(sdl, "schema.graphql").map_err(|e| e.to_string())?;
    match ExecutableDocument::parse_and_validate(&schema, document, "document.graphql") {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// What `part` has that `whole` lacks, or has otherwise: types, fields, arguments and values.
pub fn schema_differences(part: &str, whole: &str) -> Result<Vec<String>, String> {
    let part = Schema::parse_and_validate(part, "part.graphql").map_err(|e| e.to_string())?;
    let whole = Schema::parse_and_validate(whole, "whole.graphql").map_err(|e| e.to_string())?;
    let whole = facts(&whole);
    Ok(facts(&part).difference(&whole).cloned().collect())
}

/// What a schema's object type demands that a value lacks: paths of fields that must not be null.
pub fn missing_fields(sdl: &str, type_name: &str, value: &Value) -> Result<Vec<String>, String> {
    let schema = Schema::parse_and_validate(sdl, "schema.graphql").map_err(|e| e.to_string())?;
    let mut missing = Vec::new();
    find_missing(&schema, type_name, value, type_name, &mut missing);
    Ok(missing)
}

fn find_missing(
    schema: &Schema,
    type_name: &str,
    value: &Value,
    path: &str,
    missing: &mut Vec<String>,
) {
    if let Value::Array(values) = value {
        values.iter().for_each(|value| find_missing(schema, type_name, value, path, missing));
        return;
    }
    let Some(object) = schema.get_object(type_name) else { return };
    for (name, field) in &object.fields {
        let path = format!("{path}.{name}");
        match value.get(name.as_str()) {
            None | Some(Value::Null) if field.ty.is_non_null() => missing.push(path),
            None | Some(Value::Null) => {}
            Some(value) => {
                find_missing(schema, field.ty.inner_named_type(), value, &path, missing);
            }
        }
    }
}

/// Each fact of a schema as a line of its own.
fn facts(schema: &Schema) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for (name, definition) in schema.types.iter().filter(|(_, found)| !found.is_built_in()) {
        facts.insert(name.to_string());
        match definition {
            Object(object) => facts.extend(object.fields.values().flat_map(|f| field(name, f))),
            Interface(face) => facts.extend(face.fields.values().flat_map(|f| field(name, f))),
            InputObject(input) => {
                facts.extend(input.fields.values().map(|f| format!("{name}.{}: {}", f.name, f.ty)));
            }
            Enum(list) => facts.extend(list.values.keys().map(|value| format!("{name}.{value}"))),
            Union(union) => {
                facts.extend(union.members.iter().map(|m| format!("{name} | {}", m.name)))
            }
            Scalar(_) => {}
        }
    }
    facts
}

fn field(owner: &str, field: &FieldDefinition) -> Vec<String> {
    let arguments = field.arguments.iter();
    let mut facts: Vec<String> = arguments
        .map(|argument| format!("{owner}.{}({}: {})", field.name, argument.name, argument.ty))
        .collect();
    facts.push(format!("{owner}.{}: {}", field.name, field.ty));
    facts
}
