use serde_json::{Value, json};

use super::written::Written;
use crate::registry::Registry;

/// The JSON Schema of the file, for an editor: our keys and a section for each backend.
pub fn schema(registry: &Registry) -> Value {
    let mut section = Written::schema().to_value();
    let defaults = section.as_object_mut().and_then(|section| {
        section.remove("$schema");
        section.get_mut("properties")?.as_object_mut()
    });
    if let Some(properties) = defaults {
        for (name, schema) in registry.schemas() {
            let mut schema = schema.to_value();
            if let Some(schema) = schema.as_object_mut() {
                schema.remove("$schema");
            }
            properties.insert(name.to_owned(), schema);
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "orchestrator.yml",
        "type": "object",
        "properties": { "orchestrator": section },
    })
}
