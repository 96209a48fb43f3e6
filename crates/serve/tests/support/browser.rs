//! A browser without JavaScript: it keeps cookies and sends forms.

use std::time::{Duration, Instant};

use serve::keys::Role;

use super::base::Base;
use super::{Answer, Server};

const PATIENCE: Duration = Duration::from_mins(2);

/// Keeps cookies, and sends forms.
pub(crate) struct Browser<'a> {
    server: &'a Server,
    pub(crate) cookies: Vec<(String, String)>,
    /// Headers of every request, each ending its line.
    pub(crate) headers: &'static str,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(server: &'a Server) -> Self {
        Self { server, cookies: Vec::new(), headers: "" }
    }

    /// One that has signed in with a new key.
    pub(crate) async fn signed_in(base: &'a Base, role: Role, only: Option<&str>) -> Self {
        let key = base.key(role, only).await;
        let mut browser = Self::new(&base.server);
        let answer = browser.sign_in(&key, "/customers").await;
        assert_eq!((answer.status, answer.location()), (303, "/customers"), "{answer:?}");
        browser
    }

    pub(crate) async fn sign_in(&mut self, key: &str, next: &str) -> Answer {
        let form = self.get(&format!("/sign-in?next={next}")).await;
        self.post("/sign-in", &[("token", &form.token()), ("next", next), ("key", key)]).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    /// The page that a form leads to, once this is so: on a busy machine the profile may follow after the form is answered.
    pub(crate) async fn follow(&mut self, done: &Answer, is_so: impl Fn(&Answer) -> bool) -> Answer {
        let since = Instant::now();
        loop {
            let shown = self.get(done.location()).await;
            if is_so(&shown) || since.elapsed() > PATIENCE {
                return shown;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send("POST", path, &body).await
    }

    /// Sends a form of a page, with its token.
    pub(crate) async fn fill(&mut self, page: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.get(page).await.token();
        let fields: Vec<_> = [("token", token.as_str())].into_iter().chain(fields.iter().copied()).collect();
        self.post(path, &fields).await
    }

    /// Sends the last form of a page as it stands, but for these fields.
    pub(crate) async fn submit(&mut self, page: &Answer, changed: &[(&str, &str)]) -> Answer {
        let form = page.content().rsplit("<form").next().unwrap();
        let attribute = |text: &str, name: &str| {
            let (_, rest) = text.split_once(&format!("{name}=\""))?;
            Some(rest.split('"').next().unwrap().replace("&#38;", "&").replace("&#39;", "'"))
        };
        let inputs = form.split("<input ").skip(1).filter(|input| !input.contains("type=\"checkbox\""));
        let mut fields: Vec<(String, String)> = inputs
            .map(|input| {
                let input = input.split('>').next().unwrap();
                (attribute(input, "name").unwrap(), attribute(input, "value").unwrap_or_default())
            })
            .collect();
        fields.retain(|(name, _)| !changed.iter().any(|(changed, _)| changed == name));
        fields.extend(changed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.post(&attribute(form, "action").unwrap(), &fields).await
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: c360\r\nconnection: close\r\ncookie: {}\r\n{}content-length: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\n\r\n{body}",
            cookies.join("; "),
            self.headers,
            body.len(),
        );
        let answer = self.server.send(request.as_bytes()).await;
        for set in answer.set_cookies() {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !set.contains("Max-Age=0;") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Answer {
    /// The page between its head and its foot.
    pub(crate) fn content(&self) -> &str {
        let content = self.body.split("<main").nth(1).unwrap_or_else(|| panic!("{self:?} is no page"));
        content.split("</main>").next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn location(&self) -> &str {
        let location = self.exact_head.lines().find_map(|line| line.strip_prefix("location: "));
        location.unwrap_or_else(|| panic!("{self:?} leads nowhere"))
    }

    pub(crate) fn set_cookies(&self) -> impl Iterator<Item = &str> {
        self.exact_head.lines().filter_map(|line| line.strip_prefix("set-cookie: "))
    }

    /// The value of the first field of this name.
    pub(crate) fn field(&self, name: &str) -> String {
        let (_, rest) =
            self.body.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("{self:?}"));
        rest.split_once('"').unwrap().0.to_owned()
    }

    pub(crate) fn token(&self) -> String {
        self.field("token")
    }

    /// The addresses of links and forms that contain this.
    pub(crate) fn leads(&self, part: &str) -> Vec<String> {
        let attributes = ["href=\"", "action=\"", "src=\""].into_iter().flat_map(|name| self.body.split(name).skip(1));
        let paths = attributes.map(|rest| rest.split('"').next().unwrap().replace("&#38;", "&"));
        paths.filter(|path| path.contains(part)).collect()
    }
}
