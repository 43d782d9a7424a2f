//! Goal: nothing is reachable that the table of routes doesn't list.
//! Method: other methods on every path, and paths that are nearly listed, written byte by byte into
//! a connection, because clients tidy addresses. The platform may tidy them, too, as the URL standard
//! has it, or not; then the table decides, whose own tests say what fits a path.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use fastrand::Rng;
use futures::{StreamExt, stream};
use relay_schemas::{ErrorBody, ErrorCode, Route};
use relay_tests::{ADMIN_TOKEN, EnrolledEdge, Relay, WAIT_LIMIT};
use reqwest::Url;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const SIDE_BY_SIDE: usize = 16;
const RANDOM_PATHS: usize = 300;
const METHODS: [&str; 12] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "PURGE",
    "LOCK", "SEARCH",
];

/// The head of an answer, and its body.
#[derive(Debug)]
struct RawAnswer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl RawAnswer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn code(&self) -> Option<String> {
        // A chunked body has lines around it.
        let json = &self.body[self.body.find('{')?..=self.body.rfind('}')?];
        serde_json::from_str::<ErrorBody>(json).ok().map(|body| body.error.code)
    }
}

/// Asks with exactly these words. `None` when the connection is closed without an answer.
async fn ask(relay: &Relay, method: &str, path: &str, credential: &str) -> Option<RawAnswer> {
    let address = relay.url.strip_prefix("http://").unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {credential}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    );
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A stream has no end: its head is enough.
    let mut buffer = [0; 4096];
    while !is_whole(&bytes) {
        let read = timeout(WAIT_LIMIT, socket.read(&mut buffer)).await.expect("no answer");
        match read {
            Ok(0) | Err(_) => break,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
        }
    }
    parse(&String::from_utf8_lossy(&bytes))
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.contains("\r\n\r\n") && text.starts_with("HTTP/1.1 200")
}

fn parse(text: &str) -> Option<RawAnswer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Some(RawAnswer { status, headers, body: body.to_owned() })
}

/// What the table says of a request.
type Verdict = Result<Route, (ErrorCode, Option<String>)>;

fn listed(method: &str, path: &str) -> Verdict {
    Route::find(method, path).map(|(route, _)| route).map_err(|problem| {
        let allow = problem.details.into_iter().find(|(name, _)| *name == "allow");
        (problem.code, allow.map(|(_, value)| value))
    })
}

/// What the table says of an address: as it is written, and as the URL standard tidies it.
fn verdicts(method: &str, address: &str) -> [Verdict; 2] {
    let written = address.split('?').next().unwrap();
    let tidied = Url::parse(&format!("http://relay{address}")).unwrap();
    [listed(method, written), listed(method, tidied.path())]
}

/// Whether an answer is what the table says of its request.
fn is_right(answer: &RawAnswer, method: &str, path: &str, verdict: &Verdict) -> bool {
    let code = answer.code();
    match verdict {
        // It isn't this test's to say what its handler answers.
        Ok(_) => answer.status != 405 && !answer.body.contains("no such route"),
        Err((ErrorCode::MethodNotAllowed, _))
            if method == "OPTIONS" && path.starts_with("/events") =>
        {
            (answer.status, answer.body.as_str()) == (204, "")
        }
        Err((expected, allow)) => {
            let text = (method != "HEAD").then_some(expected.as_str());
            answer.status == expected.status()
                && answer.header("Allow") == allow.as_deref()
                && code.as_deref() == text
        }
    }
}

/// Asserts that a request is answered as the table says of it, whoever asks.
async fn check(relay: &Relay, edge: &EnrolledEdge, method: &str, path: &str) {
    let case = format!("{method} {}", path.chars().take(200).collect::<String>());
    for credential in [ADMIN_TOKEN, &edge.credential] {
        let Some(answer) = ask(relay, method, path, credential).await else { continue };
        // The platform has not let it through.
        let is_stopped = matches!(answer.status, 400 | 414 | 431 | 501) && answer.code().is_none();
        let verdicts = verdicts(method, path);
        let is_right = verdicts.iter().any(|verdict| is_right(&answer, method, path, verdict));
        assert!(is_stopped || is_right, "{case}: {verdicts:?}, but {answer:?}");
    }
}

async fn check_all(probes: Vec<(String, String)>) {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-unlisted", "user-unlisted").await;
    stream::iter(&probes)
        .for_each_concurrent(SIDE_BY_SIDE, |(method, path)| check(&relay, &edge, method, path))
        .await;
    println!("{} requests", 2 * probes.len());
}

/// A path of the route, with words in the place of braces.
fn path_of(route: Route) -> String {
    let words = |segment: &str| if segment.starts_with('{') { "word" } else { segment }.to_owned();
    route.path().split('/').map(words).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let paths: BTreeSet<String> = Route::ALL.iter().map(|route| path_of(*route)).collect();
    let mut probes = Vec::new();
    for path in paths {
        let others = METHODS.iter().filter(|method| listed(method, &path).is_err());
        probes.extend(others.map(|method| ((*method).to_owned(), path.clone())));
    }
    assert!(probes.len() > 150, "{}", probes.len());
    check_all(probes).await;
}

/// Paths that a careless router takes for `path`.
fn near_misses(path: &str) -> Vec<String> {
    let (parent, last) = path.rsplit_once('/').unwrap();
    let first = path.chars().nth(1).unwrap_or('x');
    let capital = first.to_ascii_uppercase();
    vec![
        path.to_uppercase(),
        path.replacen(first, &capital.to_string(), 1),
        format!("{path}/"),
        format!("{path}//"),
        format!("/{path}"),
        path.replace('/', "//"),
        path.replacen(first, &format!("%{:02x}", first as u32), 1),
        format!("{parent}%2F{last}"),
        format!("{parent}%2f{last}"),
        path.replace('/', "\\"),
        format!("{parent}\\{last}"),
        format!("/.{path}"),
        format!("/x/..{path}"),
        format!("/events/../..{path}"),
        format!("/%2e%2e{path}"),
        format!("{path}/."),
        format!("{path}/.."),
        format!("{path}/%2e%2e/{last}"),
        format!("{path}%00"),
        format!("{path}%20"),
        format!("{path}%0a"),
        format!("{path};a=b"),
        format!("{path}.json"),
        format!("{path}%3fa=b"),
        format!("{path}%23"),
        format!("{path}\u{200b}"),
        format!("{path}x"),
        format!("x{path}"),
        path[..path.len() - 1].to_owned(),
        format!("{path}/{}", "a".repeat(9_000)),
        format!("{path}?{}", "a".repeat(9_000)),
    ]
}

#[tokio::test]
async fn near_misses_reach_nothing() {
    let mut probes = Vec::new();
    for route in Route::ALL {
        let paths = near_misses(&path_of(*route)).into_iter().filter(|path| path.starts_with('/'));
        probes.extend(paths.map(|path| (route.method().to_owned(), path)));
    }
    probes.push(("OPTIONS".into(), "/eventsx".into()));
    probes.push(("OPTIONS".into(), "/events/a/b/c".into()));
    probes.push(("OPTIONS".into(), "/admin/edges".into()));
    let is_missed =
        |(method, path): &&(String, String)| verdicts(method, path).iter().all(Result::is_err);
    let missed = probes.iter().filter(is_missed).count();
    assert!(missed > 350, "{missed} of {}", probes.len());
    check_all(probes).await;
}

/// Pieces of listed paths and of what tidies them, in any order.
fn random_path(rng: &mut Rng) -> String {
    let mut pieces: Vec<&str> =
        Route::ALL.iter().flat_map(|route| route.path().split('/')).collect();
    pieces.extend([
        "", ".", "..", "%2e", "%2F", "%00", "{id}", "%", "*", "~", "x", "append", "connect",
    ]);
    let length = rng.usize(1..6);
    let pieces: Vec<&str> = (0..length).map(|_| pieces[rng.usize(..pieces.len())]).collect();
    format!("/{}", pieces.join("/"))
}

#[tokio::test]
async fn random_paths_reach_nothing() {
    let seed = std::env::var("EDGERELAY_UNLISTED_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("again with EDGERELAY_UNLISTED_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let probes = (0..RANDOM_PATHS)
        .map(|_| (METHODS[rng.usize(..7)].to_owned(), random_path(&mut rng)))
        .collect();
    check_all(probes).await;
}
