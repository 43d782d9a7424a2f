use std::collections::BTreeMap;

use relay_schemas::read_form;
use reqwest::{RequestBuilder, Url, redirect::Policy};
use serde_json::Value;

use crate::{answer::Answer, scene::Scene};

/// A person's browser: it has cookies, and follows no redirect by itself.
pub struct Browser {
    /// For requests beside the usual.
    pub http: reqwest::Client,
    /// By name.
    pub cookies: BTreeMap<String, String>,
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

impl Browser {
    /// Without cookies.
    pub fn new() -> Self {
        let http = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        Self { http, cookies: BTreeMap::new() }
    }

    /// Sends a request with the cookies, and keeps those of the answer.
    pub async fn send(&mut self, request: RequestBuilder) -> Answer {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request.header("Accept", "text/html").header("Cookie", cookies.join("; "));
        let answer = Answer::to(request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
            let (name, rest) = cookie.split_once('=').unwrap();
            match rest.split(';').next().unwrap() {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        answer
    }

    /// Opens a page of the relay.
    pub async fn get(&mut self, scene: &Scene, path: &str) -> Answer {
        let request = self.http.get(scene.url(path));
        self.send(request).await
    }

    /// Goes to Linear, decides there, and gives the address that Linear sends the browser to.
    pub async fn at_linear(&mut self, scene: &Scene, path: &str, user: &str, how: &str) -> String {
        let left = self.get(scene, path).await;
        assert_eq!(left.status, 302, "{}", left.text());
        let address: Url = left.header("location").unwrap().parse().unwrap();
        let mut form = read_form(address.query().unwrap());
        form.extend([("user".into(), user.into()), ("decision".into(), how.into())]);
        let consent = self.http.post(format!("{}/oauth/authorize", scene.linear.url())).form(&form);
        let consent = Answer::to(consent).await;
        consent.header("location").unwrap_or_else(|| panic!("{}", consent.text())).to_owned()
    }

    /// Goes to Linear, allows what is asked there, and comes back.
    pub async fn through_linear(&mut self, scene: &Scene, path: &str, user: &str) -> Answer {
        let back = self.at_linear(scene, path, user, "allow").await;
        let request = self.http.get(back);
        self.send(request).await
    }

    /// Approves or denies a machine on its page.
    pub async fn decide(&mut self, scene: &Scene, code: &Value, decision: &str) -> Answer {
        let user_code = code["user_code"].as_str().unwrap();
        let page = self.get(scene, &format!("/device?user_code={user_code}")).await;
        let form = [("user_code", user_code), ("csrf", &csrf_of(&page)), ("decision", decision)];
        let request = self.http.post(scene.url("/device")).form(&form);
        self.send(request.header("Origin", &scene.relay.url)).await
    }
}

/// What a page's form proves with that it was shown to this browser.
pub fn csrf_of(page: &Answer) -> String {
    let text = page.text();
    let (_, rest) = text.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("{text}"));
    rest.split('"').next().unwrap().to_owned()
}
