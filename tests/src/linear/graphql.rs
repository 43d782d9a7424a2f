//! `/graphql`: who asks, whether the document is one, whether it costs too much; then it is
//! executed.

use std::sync::Arc;

use apollo_compiler::{
    ExecutableDocument, Node as Parsed,
    executable::{Operation, Selection, SelectionSet},
    request::coerce_variable_values,
    resolvers::Execution,
    response::JsonMap,
    validation::Valid,
};
use axum::{
    body::Bytes,
    extract::State as Shares,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    execution::Executor,
    faults::{Answer, GRAPHQL},
    oauth::Grant,
    rate_limit::DOCUMENT_COMPLEXITY_MAX,
    refusal::Refusal,
    request_log::{Asked, serve},
    schema::PARSED,
    shared::Shared,
    state::State,
    token_endpoint::bearer,
};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Request {
    query: String,
    variables: Option<Value>,
    operation_name: Option<String>,
}

type Document = Result<Valid<ExecutableDocument>, String>;

/// Answers a document.
pub(super) async fn graphql(
    Shares(shared): Shares<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request: Request = serde_json::from_slice(&body).unwrap_or_default();
    let document =
        ExecutableDocument::parse_and_validate(&PARSED, &request.query, "document.graphql")
            .map_err(|error| error.to_string());
    let name = request.operation_name.as_deref();
    let roots = document.as_ref().map_or_else(|_| Vec::new(), |found| roots(found, name));
    let mut targets = roots.clone();
    targets.extend(request.operation_name.clone());
    targets.push(GRAPHQL.to_owned());
    let asked = Asked {
        operation: roots.join(","),
        name: request.operation_name.clone(),
        variables: request.variables.clone().unwrap_or_default(),
        targets,
    };
    let token = bearer(&headers).unwrap_or_default().to_owned();
    serve(shared, asked, |state| state.answer(&token, &request, document)).await
}

/// The names of the fields at the root of a document's operation.
fn roots(document: &Valid<ExecutableDocument>, name: Option<&str>) -> Vec<String> {
    let Ok(operation) = document.operations.get(name) else { return Vec::new() };
    operation.root_fields(document).map(|field| field.name.to_string()).collect()
}

impl State {
    fn answer(&mut self, token: &str, request: &Request, document: Document) -> Answer {
        let Some(caller) = self.caller(token) else {
            return Answer::refused(StatusCode::UNAUTHORIZED, &Refusal::authentication());
        };
        let prepared = prepare(request, document);
        let cost = prepared.as_ref().map_or(1, |(_, _, cost)| *cost);
        let endpoint = match &prepared {
            Ok((document, _, _)) => roots(document, request.operation_name.as_deref()).join(","),
            Err(_) => "none".to_owned(),
        };
        let now_ms = self.clock.now_ms();
        let (headers, retry_s) = self.limits.take((&caller.user, &endpoint), cost, now_ms);
        if let Some(retry_s) = retry_s {
            let answer = Answer::refused(StatusCode::BAD_REQUEST, &Refusal::rate_limited());
            return answer.with_all(headers).with("Retry-After", retry_s);
        }
        let answer = match prepared {
            Ok((document, variables, _)) => self.execute(request, &document, &variables, caller),
            Err(refusal) => Answer::refused(StatusCode::BAD_REQUEST, &refusal),
        };
        answer.with_all(headers)
    }

    /// Whom a token stands for, unless that user was deactivated.
    fn caller(&self, token: &str) -> Option<Grant> {
        let grant = self.authority.check(token, self.clock.now_ms())?;
        self.world.users.get(&grant.user).is_ok_and(|user| user.active).then(|| grant.clone())
    }

    fn execute(
        &mut self,
        request: &Request,
        document: &Valid<ExecutableDocument>,
        variables: &Valid<JsonMap>,
        caller: Grant,
    ) -> Answer {
        let executor = Executor::new(self, caller);
        let name = request.operation_name.as_deref();
        let execution = Execution::new(&PARSED, document).operation_name(name);
        let result = execution.and_then(|execution| {
            execution
                .coerced_variable_values(variables)
                .execute_sync(&executor.root(document, name))
        });
        let Ok(result) = result else {
            return Answer::refused(StatusCode::BAD_REQUEST, &Refusal::document("no operation"));
        };
        let refusals = executor.into_refusals();
        let errors = result.errors.iter().map(|error| {
            let message = error.message.trim_start_matches("resolver error: ");
            let refusal = refusals.iter().find(|refusal| refusal.message == message);
            let mut text = json!(error);
            text["message"] = message.into();
            text["extensions"] = refusal.cloned().unwrap_or_else(Refusal::internal).extensions();
            text
        });
        let errors: Vec<Value> = errors.collect();
        let mut body = json!({"data": result.data});
        if !errors.is_empty() {
            body["errors"] = errors.into();
        }
        Answer::new(StatusCode::OK, body)
    }
}

/// A document and its variables, if they keep to the schema, and what they cost.
fn prepare(
    request: &Request,
    document: Document,
) -> Result<(Valid<ExecutableDocument>, Valid<JsonMap>, u32), Refusal> {
    let document = document.map_err(Refusal::document)?;
    let operation = document.operations.get(request.operation_name.as_deref());
    let operation = operation.map_err(|error| Refusal::document(error.message().to_string()))?;
    let given = request.variables.clone().filter(|variables| !variables.is_null());
    let given: JsonMap = serde_json::from_value(given.unwrap_or_else(|| json!({})))
        .map_err(|_| Refusal::document("variables must be an object"))?;
    let variables = coerce_variable_values(&PARSED, operation, &given)
        .map_err(|error| Refusal::document(error.message().to_string()))?;
    let cost = complexity(&document, operation, &variables);
    if cost > DOCUMENT_COMPLEXITY_MAX {
        return Err(Refusal::input("Query too complex"));
    }
    Ok((document, variables, cost))
}

fn complexity(
    document: &ExecutableDocument,
    operation: &Parsed<Operation>,
    variables: &JsonMap,
) -> u32 {
    let tenths = tenths_of(document, &operation.selection_set, variables);
    u32::try_from(tenths.div_ceil(10)).unwrap_or(u32::MAX)
}

/// In tenths of a point: one for a property, ten for an object, and a connection counts as often
/// as it has entries at most, 50 if the document doesn't say.
fn tenths_of(document: &ExecutableDocument, set: &SelectionSet, variables: &JsonMap) -> u64 {
    let tenths = set.selections.iter().map(|selection| match selection {
        Selection::InlineFragment(part) => tenths_of(document, &part.selection_set, variables),
        Selection::FragmentSpread(spread) => {
            let part = document.fragments.get(&spread.fragment_name);
            part.map_or(0, |part| tenths_of(document, &part.selection_set, variables))
        }
        Selection::Field(field) if field.selection_set.selections.is_empty() => 1,
        Selection::Field(field) => {
            let inner = 10 + tenths_of(document, &field.selection_set, variables);
            let is_connection = field.ty().inner_named_type().ends_with("Connection");
            inner.saturating_mul(if is_connection { entries(field, variables) } else { 1 })
        }
    });
    tenths.fold(0, u64::saturating_add)
}

fn entries(field: &apollo_compiler::executable::Field, variables: &JsonMap) -> u64 {
    let first = field.specified_argument_by_name("first");
    let given = first.and_then(|value| match value.as_variable() {
        Some(name) => variables.get(name.as_str()).and_then(|found| found.as_u64()),
        None => value.to_i32().and_then(|number| u64::try_from(number).ok()),
    });
    given.unwrap_or(50)
}
