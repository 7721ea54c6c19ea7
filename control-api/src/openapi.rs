//! `GET /openapi.json`: OpenAPI 3.1, made from the very rows that route requests.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::Method;
use schemas::fault::ErrorBody;
use serde_json::json;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Paths,
    Ref, Required, Response, ResponseBuilder, ServerBuilder, Type, extensions::Extensions,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::Config;
use crate::call::{Call, Reply};
use crate::error;
use crate::route::{Access, Answer, Parameter, Replay, Route, Shape, routes};

const BEARER: &str = "bearer";
const ERROR: &str = "Error";

/// The operation that serves the document.
pub(crate) fn route() -> Route {
    let made = Arc::new(OnceLock::new());
    Route::new(Method::GET, "/openapi.json", "getOpenApi", Access::Open, move |call| {
        get(call, Arc::clone(&made))
    })
    .summary("This document.")
}

/// The document does not change while the process lives, so it is made once.
async fn get(mut call: Call, made: Arc<OnceLock<Bytes>>) -> Answer {
    call.query.finish()?;
    if let Some(bytes) = made.get() {
        return Ok(Reply::bytes(200, "application/json", bytes.clone()));
    }
    // As a value first: its members are sorted, so the bytes are the same every time.
    let document = serde_json::to_value(document(&call.parts.config))
        .map_err(|e| error::unreadable("OpenAPI document", &e))?;
    let reply = Reply::json(200, &document)?;
    Ok(Reply { body: made.get_or_init(|| reply.body.clone()).clone(), ..reply })
}

/// The document for an installation.
pub(crate) fn document(config: &Config) -> OpenApi {
    let mut routes = routes(config);
    routes.extend(crate::ingest::documented());
    let mut paths = Paths::new();
    let mut components = ComponentsBuilder::new()
        .security_scheme(BEARER, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
        .schema(ERROR, ErrorBody::schema());
    let mut shared = Vec::new();
    ErrorBody::schemas(&mut shared);
    components = components.schemas_from_iter(shared);
    for route in &routes {
        paths.add_path_operation(route.path, methods(route), operation(route));
        for shape in route.body.iter().chain(&route.answer) {
            components = components.schemas_from_iter(shape.schemas.clone());
        }
    }
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Aktvator API")
                .version("1")
                .description(Some(DESCRIPTION))
                .build(),
        )
        .servers(Some([
            ServerBuilder::new().url(config.public_base_url.clone()).build(),
            ServerBuilder::new().url(format!("{}/v1", config.public_base_url)).build(),
        ]))
        .paths(paths)
        .components(Some(components.build()))
        .build()
}

const DESCRIPTION: &str = "Money is in minor units of its currency. Lists answer {data, hasMore, \
    nextCursor}. Errors answer {statusCode, message, code, errors?, requestId}, with every fault at \
    once.";

/// The first method is the documented one; its aliases are named in an extension.
fn methods(route: &Route) -> Vec<HttpMethod> {
    let first = route.methods.first();
    let method = match first.map(Method::as_str) {
        Some("POST") => HttpMethod::Post,
        Some("PUT") => HttpMethod::Put,
        Some("PATCH") => HttpMethod::Patch,
        Some("DELETE") => HttpMethod::Delete,
        _ => HttpMethod::Get,
    };
    vec![method]
}

fn operation(route: &Route) -> Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(route.name))
        .summary(Some(route.summary))
        .tag(tag(route.path))
        .response(route.status.to_string(), success(route, "Done."));
    for (status, meaning) in &route.also_answers {
        operation = operation.response(status.to_string(), success(route, meaning));
    }
    for name in path_parameters(route.path) {
        operation = operation.parameter(parameter(name, "", ParameterIn::Path, Required::True));
    }
    for Parameter { name, description } in &route.query {
        let parameter = parameter(name, description, ParameterIn::Query, Required::False);
        operation = operation.parameter(parameter);
    }
    if keeps_answers(route) {
        let text = "1 to 255 visible ASCII characters: for 24 hours the same request gets the same \
                    answer.";
        let header = parameter("Idempotency-Key", text, ParameterIn::Header, Required::False);
        operation = operation.parameter(header);
    }
    if route.if_match {
        let text = "The ETag of the version to change: 412 where there is a newer one.";
        let header = parameter("If-Match", text, ParameterIn::Header, Required::False);
        operation = operation.parameter(header);
    }
    if let Some(shape) = &route.body {
        let mut body = RequestBodyBuilder::new().content("application/json", content(shape));
        if let Some(content_type) = route.also_takes {
            body = body.content(content_type, content(shape));
        }
        operation = operation.request_body(Some(body.required(Some(Required::True)).build()));
    }
    for (status, text) in failures(route) {
        operation = operation.response(status, failure(text));
    }
    if route.access != Access::Open {
        let none: [&str; 0] = [];
        operation = operation.security(SecurityRequirement::new(BEARER, none));
    }
    operation.extensions(Some(extensions(route))).build()
}

/// Does an `Idempotency-Key` count?
fn keeps_answers(route: &Route) -> bool {
    route.replay == Replay::Kept && route.access != Access::Open
}

/// The first word of a path, under which people look for it.
fn tag(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

/// The names in braces.
pub(crate) fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn parameter(
    name: &str,
    description: &str,
    place: ParameterIn,
    required: Required,
) -> utoipa::openapi::path::Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    ParameterBuilder::new()
        .name(name)
        .description((!description.is_empty()).then_some(description))
        .parameter_in(place)
        .required(required)
        .schema(Some(text))
        .build()
}

fn content(shape: &Shape) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(&shape.name))).build()
}

fn success(route: &Route, meaning: &str) -> Response {
    let response = ResponseBuilder::new().description(meaning);
    match &route.answer {
        Some(shape) => response.content(route.content_type, content(shape)).build(),
        None if route.status == 204 => response.build(),
        None => response.content(route.content_type, ContentBuilder::new().build()).build(),
    }
}

fn failures(route: &Route) -> Vec<(&'static str, &'static str)> {
    let mut failures = vec![("400", "The request is not valid.")];
    if route.access != Access::Open {
        failures.extend([
            ("401", "No valid key."),
            ("403", "The key may not do this."),
            ("429", "Too many requests."),
        ]);
    }
    let is_routed = route.answered_by.is_none();
    let has_body = route.methods.first() != Some(&Method::GET);
    if is_routed && (route.path.contains('{') || route.body.is_some()) {
        failures.push(("404", "There is no such thing."));
    }
    if has_body {
        failures.extend([
            ("408", "The body did not arrive in time."),
            ("413", "The body is too long."),
            ("415", "The body is of another kind, or encoded."),
        ]);
    }
    if has_body && is_routed {
        failures.push(("409", "Its present state does not allow it."));
    }
    if route.if_match {
        failures.push(("412", "It has changed since the version that If-Match names."));
    }
    if keeps_answers(route) {
        failures.push(("422", "The Idempotency-Key was used for another request."));
    }
    failures.extend([("500", "It broke on our side."), ("503", "Try again later.")]);
    failures
}

fn failure(text: &str) -> Response {
    let error = ContentBuilder::new().schema(Some(Ref::from_schema_name(ERROR))).build();
    ResponseBuilder::new().description(text).content("application/json", error).build()
}

/// What OpenAPI has no words for: who may call, which limit counts, which methods do the same.
fn extensions(route: &Route) -> Extensions {
    let (access, scope) = match route.access {
        Access::Open => ("open", None),
        Access::Operator => ("operator", None),
        Access::Key(scope) => ("key", Some(scope)),
        Access::KeyOrOperator(scope) => ("key or operator", Some(scope)),
    };
    let aliases: Vec<&str> = route.methods.iter().skip(1).map(Method::as_str).collect();
    [
        ("x-access", json!(access)),
        ("x-scope", json!(scope)),
        ("x-limit-class", json!(route.limit_class())),
        ("x-method-aliases", json!(aliases)),
        ("x-answered-by", json!(route.answered_by)),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_null() && *value != json!([]))
    .collect()
}
