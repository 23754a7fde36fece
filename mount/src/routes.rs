//! Typed routes: a backend says which paths it has and hands over plain async functions with typed input
//! and output; parsing, precise 400s, warnings, help and OpenAPI derive from that.

use std::any::type_name;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    BadPattern, Cx, Error, Operation, Output, Part, Pattern, RequestInfo, Response, Result,
};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// A token whose policies allow the path.
    #[default]
    Token,
    /// As `Token`, and the policy must grant `sudo`.
    Sudo,
    /// Any living token, whatever its policies say of the path: the handler answers by what the caller may do.
    AnyToken,
    /// No token: a proof in the request makes one. Gets the `Authorization` header.
    Login,
    /// No token, and no secret in the answer.
    Public,
    /// As `Public`, also while sealed. These few requests are not audited (a sealed server has no audit key).
    WhileSealed,
}

type ErasedFuture<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;
type Erased<B> = Arc<dyn Fn(Cx<B>, Map<String, Value>) -> ErasedFuture<Response> + Send + Sync>;
type ErasedExists<B> = Arc<dyn Fn(Cx<B>, Map<String, Value>) -> ErasedFuture<bool> + Send + Sync>;

/// An async function `(Cx<B>) -> Result<O>` or `(Cx<B>, I) -> Result<O>`.
pub trait Handler<B, I, O>: Send + Sync + 'static {
    type Input: DeserializeOwned + JsonSchema + 'static;
    fn call(
        &self,
        cx: Cx<B>,
        input: Self::Input,
    ) -> impl Future<Output = Result<O>> + Send + 'static;
}

/// The input of a handler that takes none.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
pub struct NoInput {}

impl<B, O, F, Fut> Handler<B, (), O> for F
where
    F: Fn(Cx<B>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O>> + Send + 'static,
{
    type Input = NoInput;
    fn call(&self, cx: Cx<B>, _: NoInput) -> impl Future<Output = Result<O>> + Send + 'static {
        self(cx)
    }
}

impl<B, I, O, F, Fut> Handler<B, (I,), O> for F
where
    I: DeserializeOwned + JsonSchema + 'static,
    F: Fn(Cx<B>, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O>> + Send + 'static,
{
    type Input = I;
    fn call(&self, cx: Cx<B>, input: I) -> impl Future<Output = Result<O>> + Send + 'static {
        self(cx, input)
    }
}

/// What documents need to know of one operation.
#[derive(Clone)]
pub(crate) struct OperationDoc {
    pub(crate) input: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) output: fn(&mut SchemaGenerator) -> Option<Schema>,
    pub(crate) part: Part,
    pub(crate) status: u16,
    pub(crate) also: &'static [u16],
    pub(crate) media: &'static [&'static str],
}

struct Endpoint<B> {
    call: Erased<B>,
    doc: OperationDoc,
}

impl<B> Clone for Endpoint<B> {
    fn clone(&self) -> Self {
        Self {
            call: self.call.clone(),
            doc: self.doc.clone(),
        }
    }
}

impl<B: Send + Sync + 'static> Endpoint<B> {
    fn new<H, I, O>(handler: H) -> Self
    where
        H: Handler<B, I, O>,
        O: Output,
    {
        let handler = Arc::new(handler);
        let call = move |cx: Cx<B>, data: Map<String, Value>| -> ErasedFuture<Response> {
            // The future is made before the box, so that the handler itself need not live in it.
            match parse_input::<H::Input>(data) {
                Ok(input) => {
                    let future = handler.call(cx, input);
                    // An async block would hold the handler's future twice: as it came, and as it is waited for.
                    Box::pin(future.map(|output| output.and_then(O::into_response)))
                }
                Err(error) => Box::pin(std::future::ready(Err(error))),
            }
        };
        let doc = OperationDoc {
            input: |generator| generator.subschema_for::<H::Input>(),
            output: O::schema,
            part: O::PART,
            status: O::STATUS,
            also: O::ALSO,
            media: O::MEDIA,
        };
        Self {
            call: Arc::new(call),
            doc,
        }
    }
}

/// The operations of one path.
pub struct Methods<B> {
    endpoints: BTreeMap<Operation, Endpoint<B>>,
    exists: Option<ErasedExists<B>>,
    verbatim: bool,
    upload: bool,
}

impl<B: Send + Sync + 'static> Methods<B> {
    fn empty() -> Self {
        Self {
            endpoints: BTreeMap::new(),
            exists: None,
            verbatim: false,
            upload: false,
        }
    }

    fn on<H, I, O>(mut self, operations: &[Operation], handler: H) -> Self
    where
        H: Handler<B, I, O>,
        O: Output,
    {
        let endpoint = Endpoint::new(handler);
        for operation in operations {
            self.endpoints.insert(*operation, endpoint.clone());
        }
        self
    }

    pub fn get<H: Handler<B, I, O>, I, O: Output>(self, handler: H) -> Self {
        self.on(&[Operation::Read], handler)
    }

    /// POST and PUT: to create and to update.
    pub fn post<H: Handler<B, I, O>, I, O: Output>(self, handler: H) -> Self {
        self.on(&[Operation::Create, Operation::Update], handler)
    }

    pub fn patch<H: Handler<B, I, O>, I, O: Output>(self, handler: H) -> Self {
        self.on(&[Operation::Patch], handler)
    }

    pub fn delete<H: Handler<B, I, O>, I, O: Output>(self, handler: H) -> Self {
        self.on(&[Operation::Delete], handler)
    }

    pub fn list<H: Handler<B, I, O>, I, O: Output>(self, handler: H) -> Self {
        self.on(&[Operation::List], handler)
    }

    /// Tells a write that creates from one that updates, so that policies can allow one of the two.
    /// Without it every write is an update, as in Vault.
    pub fn exists<I, F, Fut>(mut self, check: F) -> Self
    where
        I: DeserializeOwned + JsonSchema + 'static,
        F: Fn(Cx<B>, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<bool>> + Send + 'static,
    {
        self.exists = Some(Arc::new(move |cx, data| match parse_input::<I>(data) {
            Ok(input) => Box::pin(check(cx, input)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }));
        self
    }

    /// The input is what was sent and nothing else: for a body whose fields are the client's own, where a
    /// parameter of the path would take the place of a field of its name. The handler has the path from
    /// [`RequestInfo::path`].
    pub fn verbatim(mut self) -> Self {
        self.verbatim = true;
        self
    }

    /// The body of a POST is a file, of any size, and no JSON: the handler reads it from [`RequestInfo::upload`]. The
    /// core has such routes only below `sys/`, so that a listener knows them without asking the router.
    pub fn upload(mut self) -> Self {
        self.upload = true;
        self
    }
}

/// Starts the operations of a path with GET.
pub fn get<B: Send + Sync + 'static, H: Handler<B, I, O>, I, O: Output>(handler: H) -> Methods<B> {
    Methods::empty().get(handler)
}

/// Starts the operations of a path with POST and PUT.
pub fn post<B: Send + Sync + 'static, H: Handler<B, I, O>, I, O: Output>(handler: H) -> Methods<B> {
    Methods::empty().post(handler)
}

/// Starts the operations of a path with PATCH.
pub fn patch<B: Send + Sync + 'static, H: Handler<B, I, O>, I, O: Output>(
    handler: H,
) -> Methods<B> {
    Methods::empty().patch(handler)
}

/// Starts the operations of a path with DELETE.
pub fn delete<B: Send + Sync + 'static, H: Handler<B, I, O>, I, O: Output>(
    handler: H,
) -> Methods<B> {
    Methods::empty().delete(handler)
}

/// Starts the operations of a path with LIST (also `GET ?list=true`).
pub fn list<B: Send + Sync + 'static, H: Handler<B, I, O>, I, O: Output>(handler: H) -> Methods<B> {
    Methods::empty().list(handler)
}

struct Declared<B> {
    pattern: &'static str,
    about: &'static str,
    access: Access,
    methods: Methods<B>,
}

/// The routes of a backend, declared once; see [`Routes::at`].
pub struct Routes<B> {
    declared: Vec<Declared<B>>,
}

impl<B: Send + Sync + 'static> Default for Routes<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Send + Sync + 'static> Routes<B> {
    pub fn new() -> Self {
        Self {
            declared: Vec::new(),
        }
    }

    /// A path for callers with a token. `about` is a sentence for help and documents.
    pub fn at(self, pattern: &'static str, about: &'static str, methods: Methods<B>) -> Self {
        self.with(Access::Token, pattern, about, methods)
    }

    /// A path whose policy must also grant `sudo`.
    pub fn sudo(self, pattern: &'static str, about: &'static str, methods: Methods<B>) -> Self {
        self.with(Access::Sudo, pattern, about, methods)
    }

    /// A path on which a proof becomes a token.
    pub fn login(self, pattern: &'static str, about: &'static str, methods: Methods<B>) -> Self {
        self.with(Access::Login, pattern, about, methods)
    }

    pub fn with(
        mut self,
        access: Access,
        pattern: &'static str,
        about: &'static str,
        methods: Methods<B>,
    ) -> Self {
        self.declared.push(Declared {
            pattern,
            about,
            access,
            methods,
        });
        self
    }

    /// These routes and those of another part of the same backend.
    pub fn and(mut self, others: Self) -> Self {
        self.declared.extend(others.declared);
        self
    }

    /// Binds the routes to the backend that they serve.
    pub fn bind(self, backend: Arc<B>) -> Result<RouteTable> {
        let mut routes = Vec::with_capacity(self.declared.len());
        for declared in self.declared {
            routes.push(Route::bind(declared, &backend).map_err(Error::internal)?);
        }
        Ok(RouteTable::new(routes))
    }

    /// The routes as documents need them.
    pub fn docs(self) -> Result<Vec<RouteDoc>> {
        self.declared
            .into_iter()
            .map(|d| RouteDoc::new(&d).map_err(Error::internal))
            .collect()
    }
}

/// One route as help and OpenAPI need it.
#[derive(Clone)]
pub struct RouteDoc {
    pub pattern: Pattern,
    pub about: &'static str,
    pub access: Access,
    pub(crate) operations: BTreeMap<Operation, OperationDoc>,
    pub(crate) can_tell_create: bool,
    /// Whether the body of a POST is a file.
    pub takes_upload: bool,
}

impl RouteDoc {
    fn new<B>(declared: &Declared<B>) -> Result<Self, BadPattern> {
        Ok(Self {
            pattern: Pattern::parse(declared.pattern)?,
            about: declared.about,
            access: declared.access,
            operations: declared
                .methods
                .endpoints
                .iter()
                .map(|(op, e)| (*op, e.doc.clone()))
                .collect(),
            can_tell_create: declared.methods.exists.is_some(),
            takes_upload: declared.methods.upload,
        })
    }

    pub fn operations(&self) -> impl Iterator<Item = Operation> + '_ {
        self.operations.keys().copied()
    }
}

type BoundCall =
    Box<dyn Fn(Arc<RequestInfo>, Map<String, Value>) -> ErasedFuture<Response> + Send + Sync>;
type BoundExists =
    Box<dyn Fn(Arc<RequestInfo>, Map<String, Value>) -> ErasedFuture<bool> + Send + Sync>;

/// One route, bound to its backend.
pub struct Route {
    pub doc: RouteDoc,
    calls: BTreeMap<Operation, BoundCall>,
    exists: Option<BoundExists>,
    verbatim: bool,
    /// The fields that the operation knows; `None` inside when it takes any.
    known: BTreeMap<Operation, OnceLock<Option<KnownFields>>>,
}

impl Route {
    fn bind<B: Send + Sync + 'static>(
        declared: Declared<B>,
        backend: &Arc<B>,
    ) -> Result<Self, BadPattern> {
        let doc = RouteDoc::new(&declared)?;
        let calls = declared
            .methods
            .endpoints
            .into_iter()
            .map(|(operation, endpoint)| {
                let backend = backend.clone();
                let call: BoundCall = Box::new(move |request, data| {
                    (endpoint.call)(
                        Cx {
                            backend: backend.clone(),
                            request,
                        },
                        data,
                    )
                });
                (operation, call)
            })
            .collect::<BTreeMap<_, _>>();
        let exists = declared.methods.exists.map(|check| {
            let backend = backend.clone();
            let bound: BoundExists = Box::new(move |request, data| {
                check(
                    Cx {
                        backend: backend.clone(),
                        request,
                    },
                    data,
                )
            });
            bound
        });
        let known = calls
            .keys()
            .map(|operation| (*operation, OnceLock::new()))
            .collect();
        Ok(Self {
            doc,
            calls,
            exists,
            verbatim: declared.methods.verbatim,
            known,
        })
    }

    pub fn supports(&self, operation: Operation) -> bool {
        self.calls.contains_key(&operation)
    }

    /// Whether writes to this route are told apart as create and update.
    pub fn can_tell_create(&self) -> bool {
        self.exists.is_some()
    }

    /// Does the thing that this write names exist already?
    pub async fn exists(
        &self,
        request: Arc<RequestInfo>,
        params: &[(&'static str, &str)],
        data: &Map<String, Value>,
    ) -> Result<bool> {
        match &self.exists {
            None => Ok(true),
            Some(check) => {
                let mut data = data.clone();
                self.forget_nulls(request.operation, &mut data);
                insert_params(&mut data, self.merged(params));
                check(request, data).await
            }
        }
    }

    /// Calls the handler. `data` is the body (or the query); parameters of the path win over it.
    pub async fn call(
        &self,
        request: Arc<RequestInfo>,
        params: &[(&'static str, &str)],
        mut data: Map<String, Value>,
    ) -> Result<Response> {
        let operation = request.operation;
        let call = self
            .calls
            .get(&operation)
            .ok_or_else(Error::unsupported_operation)?;
        let params = self.merged(params);
        self.forget_nulls(operation, &mut data);
        let warnings = self.warnings(operation, params, &data);
        insert_params(&mut data, params);
        let mut response = call(request, data).await?;
        if !warnings.is_empty() {
            response.warnings.splice(0..0, warnings);
        }
        Ok(response)
    }

    /// The parameters that become fields of the input.
    fn merged<'p, 'v>(
        &self,
        params: &'p [(&'static str, &'v str)],
    ) -> &'p [(&'static str, &'v str)] {
        if self.verbatim { &[] } else { params }
    }

    /// A field that is null is one that was not given, as for Vault: some clients (hvac) send every field they know.
    /// In a merge patch null means removal, and a body of the client's own fields is left as it is.
    fn forget_nulls(&self, operation: Operation, data: &mut Map<String, Value>) {
        let has_null = data.values().any(Value::is_null);
        if has_null
            && operation != Operation::Patch
            && !self.verbatim
            && self.known(operation).is_some()
        {
            data.retain(|_, value| !value.is_null());
        }
    }

    /// The fields that the operation knows; `None` when it takes any.
    fn known(&self, operation: Operation) -> Option<&KnownFields> {
        self.known
            .get(&operation)?
            .get_or_init(|| self.known_fields(operation))
            .as_ref()
    }

    fn warnings(
        &self,
        operation: Operation,
        params: &[(&'static str, &str)],
        data: &Map<String, Value>,
    ) -> Vec<String> {
        if data.is_empty() {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        let replaced: Vec<&str> = params
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| data.contains_key(*name))
            .collect();
        if !replaced.is_empty() {
            warnings.push(format!(
                "Values from the path replaced these parameters of the request: {}",
                replaced.join(", ")
            ));
        }
        if let Some(known) = self.known(operation) {
            let unknown: Vec<&str> = data
                .keys()
                .map(String::as_str)
                .filter(|key| !known.names.contains(*key) && !replaced.contains(key))
                .collect();
            if !unknown.is_empty() {
                warnings.push(format!(
                    "Endpoint ignored these unrecognized parameters: [{}]",
                    unknown.join(" ")
                ));
            }
        }
        warnings
    }

    /// The same parameters with the field that is called by one of two names called by the other, where a request
    /// has such a field: a rule about parameters may know it by either.
    pub fn by_other_names(
        &self,
        operation: Operation,
        data: &Map<String, Value>,
    ) -> Option<Map<String, Value>> {
        let pairs = &self.known(operation)?.aliases;
        let other = |key: &str| {
            pairs.iter().find_map(|(name, alias)| match key {
                _ if key == name => Some(alias),
                _ if key == alias => Some(name),
                _ => None,
            })
        };
        if !data.keys().any(|key| other(key).is_some()) {
            return None;
        }
        let renamed = data
            .iter()
            .map(|(key, value)| (other(key).unwrap_or(key).clone(), value.clone()));
        Some(renamed.collect())
    }

    fn known_fields(&self, operation: Operation) -> Option<KnownFields> {
        let doc = self.doc.operations.get(&operation)?;
        let mut generator = SchemaSettings::draft2020_12()
            .with(|s| s.inline_subschemas = true)
            .into_generator();
        let schema = (doc.input)(&mut generator);
        let takes_any = schema
            .get("additionalProperties")
            .is_some_and(|v| v != &Value::Bool(false));
        if takes_any || schema.get("type").and_then(Value::as_str) != Some("object") {
            return None;
        }
        let mut known = KnownFields::default();
        for (name, property) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            known.names.insert(name.clone());
            // A schema does not know serde's aliases: a field that has some names them there too.
            let aliases = property
                .get("x-aliases")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            for alias in aliases.filter_map(Value::as_str) {
                known.names.insert(alias.to_owned());
                known.aliases.push((name.clone(), alias.to_owned()));
            }
        }
        Some(known)
    }
}

/// The fields of one operation's input.
#[derive(Default)]
struct KnownFields {
    /// Each by every name it has.
    names: BTreeSet<String>,
    /// The name and the second name of those that have two.
    aliases: Vec<(String, String)>,
}

/// All routes of one mount, most specific first.
pub struct RouteTable {
    by_first: HashMap<&'static str, Vec<Route>>,
    open: Vec<Route>,
}

impl std::fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.routes().map(|r| r.doc.pattern.text()))
            .finish()
    }
}

impl RouteTable {
    fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| std::cmp::Reverse(route.doc.pattern.specificity()));
        let mut by_first: HashMap<&'static str, Vec<Route>> = HashMap::new();
        let mut open = Vec::new();
        for route in routes {
            match route.doc.pattern.first_literal() {
                Some(first) => by_first.entry(first).or_default().push(route),
                None => open.push(route),
            }
        }
        Self { by_first, open }
    }

    /// The most specific route that matches `path` (below the mount, no slash at either end).
    pub fn find<'p>(&self, path: &'p str) -> Option<(&Route, Vec<(&'static str, &'p str)>)> {
        let first = path.split('/').next().unwrap_or_default();
        let literal = self.by_first.get(first).into_iter().flatten();
        literal.chain(&self.open).find_map(|route| {
            route
                .doc
                .pattern
                .matches(path)
                .map(|params| (route, params))
        })
    }

    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.by_first.values().flatten().chain(&self.open)
    }
}

fn insert_params(data: &mut Map<String, Value>, params: &[(&'static str, &str)]) {
    for (name, value) in params {
        data.insert((*name).to_owned(), Value::String((*value).to_owned()));
    }
}

/// Reads a handler's input; on failure says which field was wrong and what was expected there, and
/// nothing of what was sent (threats: `error-leaks-input`).
fn parse_input<I: DeserializeOwned>(data: Map<String, Value>) -> Result<I> {
    let value = Value::Object(data);
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(&value, &mut track);
    match I::deserialize(deserializer) {
        Ok(input) => Ok(input),
        Err(error) => {
            let field = track.path().to_string();
            let field = match field.as_str() {
                "." | "" => culprit::<I>(&value).unwrap_or(field),
                _ => field,
            };
            Err(Error::bad_request(explain::<I>(&field, &error.to_string())))
        }
    }
}

/// The field of a flattened struct that was wrong: serde loses its name, so it is the one without which the
/// input parses. Only for inputs of a reasonable size, because each field costs a parse.
fn culprit<I: DeserializeOwned>(value: &Value) -> Option<String> {
    let fields = value.as_object().filter(|fields| fields.len() <= 64)?;
    fields.keys().find_map(|name| {
        let mut without = fields.clone();
        without.remove(name);
        I::deserialize(Value::Object(without))
            .is_ok()
            .then(|| name.clone())
    })
}

fn explain<I>(field: &str, error: &str) -> String {
    tracing::debug!(
        input = type_name::<I>(),
        field,
        "a request's input did not parse"
    );
    if let Some(missing) = error.strip_prefix("missing field ") {
        return format!("missing required field {}", missing.replace('`', "\""));
    }
    // serde's texts quote the value before "expected"; what follows is ours or the type's.
    let expected = error.find("expected ").map(|at| &error[at..]);
    match (field, expected) {
        ("." | "", Some(expected)) => {
            format!("the request body is not as it should be: {expected}")
        }
        ("." | "", None) => "the request body is not as it should be".into(),
        (field, Some(expected)) => format!("field {field:?}: {expected}"),
        (field, None) => format!("field {field:?} has a value that is not allowed there"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fields::{CommaList, Ttl};
    use crate::{Data, Keys, NoContent};
    use serde_json::json;
    use std::time::SystemTime;

    struct Shop;

    #[derive(serde::Deserialize, JsonSchema)]
    struct WriteItem {
        name: String,
        #[serde(default, alias = "lease")]
        #[schemars(extend("x-aliases" = ["lease"]))]
        ttl: Ttl,
        #[serde(default)]
        tags: CommaList,
    }

    #[derive(serde::Serialize, JsonSchema)]
    struct Item {
        name: String,
        ttl: u64,
        tags: usize,
    }

    async fn write(_: Cx<Shop>, input: WriteItem) -> Result<Data<Item>> {
        Ok(Data(Item {
            name: input.name,
            ttl: input.ttl.as_secs(),
            tags: input.tags.0.len(),
        }))
    }

    async fn items(_: Cx<Shop>) -> Result<Keys> {
        Ok(Keys { keys: vec![] })
    }

    async fn remove(_: Cx<Shop>) -> Result<NoContent> {
        Ok(NoContent)
    }

    fn table() -> RouteTable {
        Routes::new()
            .at("items", "All items", list(items))
            .at("items/{name}", "One item", post(write).delete(remove))
            .bind(Arc::new(Shop))
            .unwrap()
    }

    fn request(operation: Operation) -> Arc<RequestInfo> {
        Arc::new(RequestInfo {
            id: "id".into(),
            operation,
            mount: "shop/".into(),
            path: String::new(),
            caller: None,
            peer: None,
            token: None,
            authorization: None,
            end_point: None,
            wrap_ttl: None,
            upload: None,
            now: SystemTime::UNIX_EPOCH,
        })
    }

    async fn call(operation: Operation, path: &str, data: Value) -> Result<Response> {
        let table = table();
        let (route, params) = table.find(path).ok_or_else(Error::not_found)?;
        let Value::Object(data) = data else {
            panic!("the test sends an object")
        };
        route.call(request(operation), &params, data).await
    }

    #[tokio::test]
    async fn a_typed_body_reaches_the_handler_with_the_path_merged_in() {
        let response = call(
            Operation::Update,
            "items/lamp",
            json!({"ttl": "1h", "tags": "a,b"}),
        )
        .await
        .unwrap();
        let Some(data) = response.reply.to_data() else {
            panic!()
        };
        assert_eq!(
            Value::Object(data),
            json!({"name": "lamp", "ttl": 3600, "tags": 2})
        );
        assert!(response.warnings.is_empty());
    }

    #[tokio::test]
    async fn unknown_parameters_are_warned_of_and_the_path_wins() {
        let response = call(
            Operation::Update,
            "items/lamp",
            json!({"colour": 1, "name": "other"}),
        )
        .await
        .unwrap();
        assert_eq!(response.warnings.len(), 2, "{:?}", response.warnings);
        assert!(response.warnings[1].contains("colour"));
        let Some(data) = response.reply.to_data() else {
            panic!()
        };
        assert_eq!(data["name"], "lamp");
    }

    #[tokio::test]
    async fn a_field_that_is_null_was_not_given() {
        let response = call(
            Operation::Update,
            "items/lamp",
            json!({"ttl": null, "tags": null, "colour": null}),
        )
        .await
        .unwrap();
        assert!(response.warnings.is_empty(), "{:?}", response.warnings);
        let Some(data) = response.reply.to_data() else {
            panic!()
        };
        assert_eq!(
            Value::Object(data),
            json!({"name": "lamp", "ttl": 0, "tags": 0})
        );
    }

    #[tokio::test]
    async fn another_name_of_a_field_is_known() {
        let response = call(Operation::Update, "items/lamp", json!({"lease": 60}))
            .await
            .unwrap();
        assert!(response.warnings.is_empty(), "{:?}", response.warnings);
        let Some(data) = response.reply.to_data() else {
            panic!()
        };
        assert_eq!(data["ttl"], 60);
    }

    #[tokio::test]
    async fn error_leaks_input_a_wrong_value_is_named_by_field_and_never_repeated() {
        for wrong in [
            json!({"ttl": "s3cret-value"}),
            json!({"ttl": {"s3cret-value": 1}}),
            json!({"tags": 5}),
            json!({"tags": ["s3cret-value", 7]}),
        ] {
            let error = call(Operation::Update, "items/lamp", wrong)
                .await
                .unwrap_err();
            assert_eq!(error.status(), 400);
            let text = error.to_string();
            assert!(!text.contains("s3cret"), "{text}");
            assert!(text.contains("ttl") || text.contains("tags"), "{text}");
            assert!(text.contains("expected"), "{text}");
        }
    }

    #[derive(serde::Deserialize, JsonSchema)]
    struct WithTokenFields {
        #[allow(dead_code)]
        name: String,
        #[serde(flatten)]
        #[allow(dead_code)]
        token: crate::fields::TokenFields,
    }

    #[test]
    fn a_wrong_value_in_a_flattened_struct_is_named_too() {
        let Value::Object(wrong) =
            json!({"name": "lamp", "token_ttl": "s3cret", "token_num_uses": 1})
        else {
            panic!()
        };
        let error = parse_input::<WithTokenFields>(wrong)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("\"token_ttl\"") && error.contains("expected a duration"),
            "{error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[tokio::test]
    async fn a_verbatim_body_keeps_a_field_that_is_called_as_a_parameter() {
        async fn echo(_: Cx<Shop>, input: Map<String, Value>) -> Result<Data<Map<String, Value>>> {
            Ok(Data(input))
        }
        let table = Routes::new()
            .at("{name*}", "Anything", post(echo).verbatim())
            .bind(Arc::new(Shop))
            .unwrap();
        let (route, params) = table.find("lamp").unwrap();
        let Value::Object(sent) = json!({"name": "my own", "colour": 1}) else {
            panic!()
        };
        let response = route
            .call(request(Operation::Update), &params, sent.clone())
            .await
            .unwrap();
        assert!(response.warnings.is_empty(), "{:?}", response.warnings);
        let Some(data) = response.reply.to_data() else {
            panic!()
        };
        assert_eq!(data, sent);
    }

    #[tokio::test]
    async fn an_empty_listing_is_404_and_a_missing_verb_405() {
        assert_eq!(
            call(Operation::List, "items", json!({}))
                .await
                .unwrap_err()
                .status(),
            404
        );
        assert_eq!(
            call(Operation::Patch, "items/lamp", json!({}))
                .await
                .unwrap_err()
                .status(),
            405
        );
        assert!(table().find("nothing/here").is_none());
    }
}
