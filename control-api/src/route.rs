//! One row per operation: what routing, access, limits and the OpenAPI document are all made of.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::Method;
use schemas::fault::ApiError;
use utoipa::PartialSchema as _;
use utoipa::openapi::{RefOr, Schema};

use crate::call::{Call, Reply};
use crate::config::BODY_LEN_MAX;
use crate::page::Listing;

/// What a handler comes to.
pub(crate) type Answer = Result<Reply, ApiError>;
/// What answers an operation.
pub(crate) type Handler =
    Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;
/// A component schema and what it refers to, by name.
pub(crate) type Schemas = Vec<(String, RefOr<Schema>)>;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anyone.
    Open,
    /// The operator's token.
    Operator,
    /// A key with this scope.
    Key(&'static str),
    /// A key with this scope, or the operator.
    KeyOrOperator(&'static str),
}

/// What becomes of an `Idempotency-Key` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// Not a POST: the header means nothing.
    Ignored,
    /// The first answer is given again.
    Kept,
    /// Refused: the answer holds a secret, which is not kept.
    Refused,
}

/// A query parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
}

/// Shorthand for [`Parameter`].
pub(crate) const fn parameter(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, description }
}

/// A type as the OpenAPI document names it.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) schemas: Schemas,
}

impl Shape {
    fn of<T: utoipa::ToSchema>() -> Self {
        let name = T::name().into_owned();
        let mut schemas = vec![(name.clone(), T::schema())];
        T::schemas(&mut schemas);
        Self { name, schemas }
    }

    /// A page of `T`s; a generic type has no name of its own.
    fn page_of<T: utoipa::ToSchema>() -> Self {
        let Self { name, mut schemas } = Self::of::<T>();
        let name = format!("{name}Page");
        schemas.push((name.clone(), Listing::<T>::schema()));
        Self { name, schemas }
    }
}

/// One operation.
#[derive(Clone)]
pub(crate) struct Route {
    /// The first is in the document, the others are accepted too.
    pub(crate) methods: Vec<Method>,
    /// With `{name}` for parameters.
    pub(crate) path: &'static str,
    /// `operationId`, and the label of metrics.
    pub(crate) name: &'static str,
    /// One line for people.
    pub(crate) summary: &'static str,
    pub(crate) access: Access,
    pub(crate) replay: Replay,
    pub(crate) query: Vec<Parameter>,
    pub(crate) body: Option<Shape>,
    /// Bytes of the body.
    pub(crate) body_len_max: usize,
    /// Status and body of success.
    pub(crate) status: u16,
    pub(crate) answer: Option<Shape>,
    /// Of the answer.
    pub(crate) content_type: &'static str,
    /// Other statuses of success, with the same body, and what they mean.
    pub(crate) also_answers: Vec<(u16, &'static str)>,
    /// Of the body, besides JSON.
    pub(crate) also_takes: Option<&'static str>,
    /// Does `If-Match` count?
    pub(crate) if_match: bool,
    /// Who answers it, if not this router.
    pub(crate) answered_by: Option<&'static str>,
    pub(crate) handler: Handler,
}

impl Route {
    /// An operation that answers 200 with JSON; POST keeps its answers for replays.
    pub(crate) fn new<F, A>(
        method: Method,
        path: &'static str,
        name: &'static str,
        access: Access,
        handler: F,
    ) -> Self
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let replay = if method == Method::POST { Replay::Kept } else { Replay::Ignored };
        Self {
            methods: vec![method],
            path,
            name,
            summary: "",
            access,
            replay,
            query: Vec::new(),
            body: None,
            body_len_max: BODY_LEN_MAX,
            status: 200,
            answer: None,
            content_type: "application/json",
            also_answers: Vec::new(),
            also_takes: None,
            if_match: false,
            answered_by: None,
            handler: Arc::new(move |call| Box::pin(handler(call))),
        }
    }

    /// One line for people.
    pub(crate) fn summary(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    /// Also answers to `methods`.
    pub(crate) fn also(mut self, methods: [Method; 2]) -> Self {
        self.methods.extend(methods);
        self
    }

    /// Takes a JSON body of this shape.
    pub(crate) fn takes<T: utoipa::ToSchema>(self) -> Self {
        Self { body: Some(Shape::of::<T>()), ..self }
    }

    /// Takes at most `len` bytes.
    pub(crate) fn body_len_max(self, len: usize) -> Self {
        Self { body_len_max: len, ..self }
    }

    /// Succeeds with this status and shape.
    pub(crate) fn gives<T: utoipa::ToSchema>(self, status: u16) -> Self {
        Self { status, answer: Some(Shape::of::<T>()), ..self }
    }

    /// Succeeds with a page of these.
    pub(crate) fn gives_page<T: utoipa::ToSchema>(self) -> Self {
        Self { answer: Some(Shape::page_of::<T>()), ..self }
    }

    /// Succeeds with this status and no body.
    pub(crate) fn gives_nothing(self) -> Self {
        Self { status: 204, ..self }
    }

    /// Succeeds with something other than JSON.
    pub(crate) fn gives_content(self, content_type: &'static str) -> Self {
        Self { content_type, ..self }
    }

    /// Also succeeds with this status and the same body.
    pub(crate) fn also_answers(mut self, status: u16, meaning: &'static str) -> Self {
        self.also_answers.push((status, meaning));
        self
    }

    /// Also takes a body of this kind.
    pub(crate) fn takes_also(self, content_type: &'static str) -> Self {
        Self { also_takes: Some(content_type), ..self }
    }

    /// Changes only the version that `If-Match` names, where it is sent.
    pub(crate) fn if_match(self) -> Self {
        Self { if_match: true, ..self }
    }

    /// Is in the document only: somebody else answers it.
    pub(crate) fn answered_by(self, who: &'static str) -> Self {
        Self { answered_by: Some(who), ..self }
    }

    /// Knows these query parameters.
    pub(crate) fn query(mut self, parameters: &[Parameter]) -> Self {
        self.query.extend_from_slice(parameters);
        self
    }

    /// Refuses `Idempotency-Key`, or ignores it.
    pub(crate) fn replay(self, replay: Replay) -> Self {
        Self { replay, ..self }
    }

    /// The limit class, as the document says it.
    pub(crate) fn limit_class(&self) -> Option<&'static str> {
        let class = if self.answered_by.is_some() { "ingest" } else { "requests" };
        (self.access != Access::Open).then_some(class)
    }
}

/// Every operation, in the order of the document.
pub(crate) fn routes(config: &crate::Config) -> Vec<Route> {
    let mut routes = vec![crate::openapi::route()];
    routes.extend(crate::organizations::routes());
    routes.extend(crate::api_keys::routes());
    routes.extend(crate::campaigns::routes());
    routes.extend(crate::performance::routes());
    routes.extend(crate::reward_rules::routes());
    routes.extend(crate::simulate::routes());
    routes.extend(crate::usage::routes());
    routes.extend(crate::gigs::routes());
    routes.extend(crate::aktvators::routes());
    routes.extend(crate::links::routes());
    routes.extend(crate::codes::routes());
    routes.extend(crate::wallet::routes());
    routes.extend(crate::events::routes());
    routes.extend(crate::reversals::routes());
    routes.extend(crate::rewards::routes());
    routes.extend(crate::action_attempts::routes());
    routes.extend(crate::payouts::routes());
    routes.extend(crate::balances::routes());
    routes.extend(crate::webhook_endpoints::routes());
    routes.extend(crate::deliveries::routes());
    routes.extend(crate::event_types::routes());
    if config.sandbox_payments {
        routes.extend(crate::sandbox::routes());
    }
    routes
}
