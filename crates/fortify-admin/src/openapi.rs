//! The OpenAPI document, generated from the table of routes.

use axum::http::Method;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::error::Problem;
use super::route::{API, Access, Route};

/// The document: OpenAPI 3.1, whose schemas are JSON Schema 2020-12.
#[must_use]
pub(super) fn document(routes: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12();
    let settings = settings.with(|it| it.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths = Map::new();
    for route in routes.iter().filter(|route| route.path.starts_with(API)) {
        let takes = (route.takes)(&mut generator);
        let takes = resolved(&takes.into(), &generator);
        let gives = route.gives.map(|gives| gives(&mut generator));
        let answer = match gives {
            Some(schema) => json!({"application/json": {"schema": schema}}),
            None => json!({"application/json": {}}),
        };
        let mut operation = json!({
            "summary": route.summary,
            "operationId": name_of(route),
            "parameters": parameters(route, &takes),
            "security": security(route.access),
            "responses": {
                "200": {"description": "Done", "content": answer},
                "default": {
                    "description": "Refused; the message says what to do",
                    "content": {"application/json": {"schema": problem}},
                },
            },
        });
        if let Some(body) = body(route, &takes).filter(|_| route.method == Method::POST) {
            let content = json!({
                "application/json": {"schema": body},
                "application/x-www-form-urlencoded": {"schema": body},
            });
            insert(&mut operation, "requestBody", json!({"content": content}));
        }
        if let Access::Role(role) = route.access {
            insert(&mut operation, "x-role", json!(role));
        }
        let method = route.method.as_str().to_ascii_lowercase();
        let at = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
        insert(at, &method, operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Fortify, admin interface", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": super::cookies::SESSION},
            },
        },
    })
}

/// `GET /admin/api/v1/circuits/{circuit}` is `get_circuits_circuit`.
fn name_of(route: &Route) -> String {
    let path = route.path.strip_prefix(API).unwrap_or(&route.path);
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let method = route.method.as_str().to_ascii_lowercase();
    [method.as_str()].into_iter().chain(words).collect::<Vec<_>>().join("_")
}

fn security(access: Access) -> Value {
    match access {
        Access::Public | Access::Form => json!([]),
        Access::Role(_) => json!([{"token": []}, {"session": []}]),
    }
}

/// The schema that a reference points to, or the schema itself.
fn resolved(schema: &Value, generator: &schemars::SchemaGenerator) -> Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|at| at.rsplit('/').next());
    name.and_then(|name| generator.definitions().get(name)).cloned().unwrap_or(schema.clone())
}

fn is_in_path(route: &Route, name: &str) -> bool {
    route.path.contains(&format!("{{{name}}}"))
}

fn properties(takes: &Value) -> Vec<(String, Value)> {
    let found = takes.get("properties").and_then(Value::as_object);
    found.map(|all| all.clone().into_iter().collect()).unwrap_or_default()
}

fn is_required(takes: &Value, name: &str) -> bool {
    let required = takes.get("required").and_then(Value::as_array);
    required.is_some_and(|required| required.iter().any(|one| one == name))
}

fn parameters(route: &Route, takes: &Value) -> Vec<Value> {
    let wanted = |name: &String| is_in_path(route, name) || route.method == Method::GET;
    let all = properties(takes).into_iter().filter(|(name, _)| wanted(name));
    all.map(|(name, schema)| {
        let place = if is_in_path(route, &name) { "path" } else { "query" };
        let required = is_required(takes, &name);
        json!({"name": name, "in": place, "required": required, "schema": schema})
    })
    .collect()
}

fn body(route: &Route, takes: &Value) -> Option<Value> {
    let mut all = properties(takes);
    all.retain(|(name, _)| !is_in_path(route, name));
    if all.is_empty() {
        return None;
    }
    let required: Vec<_> =
        all.iter().map(|(name, _)| name).filter(|it| is_required(takes, it)).collect();
    let required = json!(required);
    let all: Map<String, Value> = all.into_iter().collect();
    Some(json!({"type": "object", "properties": all, "required": required}))
}

fn insert(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}
