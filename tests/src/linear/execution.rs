//! Fields one by one: rows of the world are objects, and lead to others.

use std::cell::RefCell;

use apollo_compiler::{
    ExecutableDocument,
    executable::OperationType,
    resolvers::{FieldError, ObjectValue, ResolveInfo, ResolvedValue},
};
use serde_json::{Value, json};

use super::{oauth::Grant, refusal::Refusal, state::State, world::Id};

/// What a field is.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Value),
    /// An object: its type, and the id of its row.
    Row(&'static str, Id),
    Rows(&'static str, Vec<Id>),
    /// A connection: its type, that of its nodes, and their ids.
    Connection(&'static str, &'static str, Vec<Id>),
    /// An object that is no row.
    Inline(&'static str, Fields),
    Inlines(&'static str, Vec<Fields>),
}

pub(super) type Fields = Vec<(&'static str, Node)>;

impl Node {
    pub(super) fn leaf(value: impl Into<Value>) -> Self {
        Self::Leaf(value.into())
    }

    /// A row, or null.
    pub(super) fn maybe(name: &'static str, id: Option<&Id>) -> Self {
        id.map_or(Self::Leaf(Value::Null), |id| Self::Row(name, id.clone()))
    }
}

/// One document's execution for one caller.
pub(super) struct Executor<'s> {
    state: RefCell<&'s mut State>,
    caller: Grant,
    refusals: RefCell<Vec<Refusal>>,
}

struct Object<'e, 's> {
    executor: &'e Executor<'s>,
    name: &'static str,
    source: Source,
}

enum Source {
    Query,
    Mutation,
    Row(Id),
    Fields(Fields),
}

impl<'s> Executor<'s> {
    pub(super) fn new(state: &'s mut State, caller: Grant) -> Self {
        Self { state: RefCell::new(state), caller, refusals: RefCell::default() }
    }

    /// Where the execution of an operation begins.
    pub(super) fn root<'e>(
        &'e self,
        document: &ExecutableDocument,
        name: Option<&str>,
    ) -> impl ObjectValue + use<'e, 's> {
        let operation = document.operations.get(name);
        match operation.map(|operation| operation.operation_type) {
            Ok(OperationType::Mutation) => self.object("Mutation", Source::Mutation),
            _ => self.object("Query", Source::Query),
        }
    }

    pub(super) fn into_refusals(self) -> Vec<Refusal> {
        self.refusals.into_inner()
    }

    fn object<'e>(&'e self, name: &'static str, source: Source) -> Object<'e, 's> {
        Object { executor: self, name, source }
    }

    fn resolved<'e>(&'e self, node: Node, arguments: &Value) -> ResolvedValue<'e>
    where
        's: 'e,
    {
        match node {
            Node::Leaf(value) => ResolvedValue::leaf(value),
            Node::Row(name, id) => ResolvedValue::object(self.object(name, Source::Row(id))),
            Node::Rows(name, ids) => ResolvedValue::list(
                ids.into_iter()
                    .map(move |id| ResolvedValue::object(self.object(name, Source::Row(id)))),
            ),
            Node::Connection(name, of, ids) => {
                let fields = page_of(of, &ids, arguments);
                ResolvedValue::object(self.object(name, Source::Fields(fields)))
            }
            Node::Inline(name, fields) => {
                ResolvedValue::object(self.object(name, Source::Fields(fields)))
            }
            Node::Inlines(name, list) => ResolvedValue::list(list.into_iter().map(move |fields| {
                ResolvedValue::object(self.object(name, Source::Fields(fields)))
            })),
        }
    }
}

impl Object<'_, '_> {
    fn node(&self, field: &str, arguments: &Value) -> Result<Node, Refusal> {
        let mut state = self.executor.state.borrow_mut();
        let caller = &self.executor.caller;
        let fields = match &self.source {
            Source::Query => return state.query(caller, field, arguments),
            Source::Mutation => return state.mutation(caller, field, arguments),
            Source::Row(id) => state.fields_of(caller, self.name, id)?,
            Source::Fields(fields) => fields.clone(),
        };
        let found = fields.into_iter().find(|(name, _)| *name == field);
        Ok(found.expect("every field of the schema is served").1)
    }
}

impl ObjectValue for Object<'_, '_> {
    fn type_name(&self) -> &str {
        self.name
    }

    fn resolve_field<'a>(
        &'a self,
        info: &'a ResolveInfo<'a>,
    ) -> Result<ResolvedValue<'a>, FieldError> {
        let arguments = json!(info.arguments());
        match self.node(info.field_name(), &arguments) {
            Ok(node) => Ok(self.executor.resolved(node, &arguments)),
            Err(refusal) => {
                let message = refusal.message.clone();
                self.executor.refusals.borrow_mut().push(refusal);
                Err(FieldError { message })
            }
        }
    }
}

/// The part of a connection between `after` and `first`. A row's cursor is its id.
fn page_of(of: &'static str, ids: &[Id], arguments: &Value) -> Fields {
    let after = arguments["after"].as_str();
    let start =
        after.and_then(|after| ids.iter().position(|id| id == after)).map_or(0, |at| at + 1);
    let first = arguments["first"].as_u64().unwrap_or(50);
    let length = usize::try_from(first).unwrap_or(usize::MAX).min(ids.len() - start);
    let page = &ids[start..start + length];
    let information = vec![
        ("startCursor", Node::leaf(page.first().cloned())),
        ("endCursor", Node::leaf(page.last().cloned())),
        ("hasNextPage", Node::leaf(start + length < ids.len())),
        ("hasPreviousPage", Node::leaf(start > 0)),
    ];
    vec![
        ("nodes", Node::Rows(of, page.to_vec())),
        ("pageInfo", Node::Inline("PageInfo", information)),
    ]
}
