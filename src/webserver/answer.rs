//! Requests and their answers.

use std::fs::File;
use std::io;
use std::path::Path;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, once, try_unfold};
use handlebars::html_escape;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::io::AsyncReadExt;

use super::files::{Found, Root, relative};

/// How much of a file is in memory at a time, in bytes.
const CHUNK: usize = 64 * 1024;
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// What a name in a link can't hold as it is.
const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?');

/// What is sent after the head.
pub(super) type Body = StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>;

/// What is served.
#[derive(Debug)]
pub(super) enum Site {
    /// The files of a directory.
    Files(Root),
    /// One page, whatever the path.
    Page(String),
}

impl Site {
    /// A page that says `greeting`.
    pub fn page(greeting: &str) -> Self {
        let greeting = html_escape(greeting);
        Self::Page(format!("<!DOCTYPE html>\n<title>{greeting}</title>\n<h1>{greeting}</h1>\n"))
    }

    /// The answer to `request`, whose body is of no interest.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let head = request.method() == Method::HEAD;
        if !head && request.method() != Method::GET {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD only\n".into(), false);
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        let path = request.uri().path();
        match self {
            Self::Page(page) => text(StatusCode::OK, HTML, page.clone(), head),
            Self::Files(root) => match relative(path).and_then(|name| Some((root.find(&name)?, name))) {
                Some((found, name)) => served(found, path, &name, head),
                None => text(StatusCode::NOT_FOUND, TEXT, "There is nothing here.\n".into(), head),
            },
        }
    }
}

fn served(found: Found, path: &str, name: &str, head: bool) -> Response<Body> {
    match found {
        Found::File { file, length } => {
            let kind = mime_guess::from_path(Path::new(name)).first_raw();
            whole(file, length, kind.unwrap_or("application/octet-stream"), head)
        }
        // Links in it are relative to where it seems to be.
        Found::Directory { .. } if !path.ends_with('/') => {
            let mut moved = text(StatusCode::MOVED_PERMANENTLY, TEXT, String::new(), head);
            // From the decoded name: a path such as //host would lead elsewhere.
            let location = format!("/{}/", utf8_percent_encode(name, UNSAFE));
            if let Ok(location) = HeaderValue::try_from(location) {
                moved.headers_mut().insert(header::LOCATION, location);
            }
            moved
        }
        Found::Directory { index: Some((file, length)), .. } => whole(file, length, HTML, head),
        Found::Directory { index: None, entries } => {
            text(StatusCode::OK, HTML, listing(name, &entries), head)
        }
    }
}

fn listing(name: &str, entries: &[String]) -> String {
    let title = html_escape(&format!("/{name}"));
    let mut page = format!("<!DOCTYPE html>\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n");
    for entry in entries {
        // `./`: a name with a colon isn't a scheme.
        let link = html_escape(&utf8_percent_encode(entry, UNSAFE).to_string());
        page.push_str(&format!("<li><a href=\"./{link}\">{}</a></li>\n", html_escape(entry)));
    }
    page.push_str("</ul>\n");
    page
}

fn text(status: StatusCode, kind: &'static str, text: String, head: bool) -> Response<Body> {
    let length = text.len() as u64;
    let bytes = Bytes::from(text);
    let body = once(async move { Ok(Frame::data(bytes)) });
    response(status, kind, length, if head { empty() } else { body.boxed() })
}

/// A file as long as it was when it was opened, a chunk at a time.
fn whole(file: File, length: u64, kind: &'static str, head: bool) -> Response<Body> {
    if head {
        return response(StatusCode::OK, kind, length, empty());
    }
    let file = tokio::fs::File::from_std(file).take(length);
    let body = try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        let count = file.read(&mut chunk).await?;
        chunk.truncate(count);
        Ok((count > 0).then(|| (Frame::data(Bytes::from(chunk)), file)))
    });
    response(StatusCode::OK, kind, length, body.boxed())
}

fn empty() -> BoxStream<'static, io::Result<Frame<Bytes>>> {
    futures_util::stream::empty().boxed()
}

fn response(
    status: StatusCode,
    kind: &'static str,
    length: u64,
    body: BoxStream<'static, io::Result<Frame<Bytes>>>,
) -> Response<Body> {
    let mut response = Response::new(StreamBody::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webserver::files::open_root;

    fn ask(site: &Site, method: Method, path: &str) -> Response<Body> {
        site.answer(&Request::builder().method(method).uri(path).body(()).unwrap())
    }

    #[test]
    fn a_greeting_is_text_and_not_markup() {
        let Site::Page(page) = Site::page("<b>&") else { panic!() };
        assert!(page.contains("&lt;b&gt;&amp;"), "{page}");
    }

    #[test]
    fn files_types_redirects_and_refusals() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.css"), "x").unwrap();
        std::fs::write(dir.path().join("a.unknown"), "x").unwrap();
        std::fs::create_dir(dir.path().join("s<ub")).unwrap();
        let site = Site::Files(open_root(dir.path()).unwrap());
        let kind = |path| ask(&site, Method::GET, path).headers()[header::CONTENT_TYPE].clone();
        assert_eq!(kind("/a.css"), "text/css");
        assert_eq!(kind("/a.unknown"), "application/octet-stream");
        assert_eq!(kind("/"), HTML);
        assert_eq!(ask(&site, Method::GET, "/none").status(), 404);
        assert_eq!(ask(&site, Method::GET, "/%2e%2e/etc/passwd").status(), 404);
        assert_eq!(ask(&site, Method::POST, "/").headers()[header::ALLOW], "GET, HEAD");
        let moved = ask(&site, Method::GET, "/s%3Cub");
        assert_eq!(
            (moved.status().as_u16(), &moved.headers()[header::LOCATION]),
            (301, &HeaderValue::from_static("/s%3Cub/"))
        );
        assert_eq!(ask(&site, Method::HEAD, "/a.css").headers()[header::CONTENT_LENGTH], "1");
    }

    #[test]
    fn a_listing_is_markup_of_names() {
        let page = listing("a&b", &["<x>".into(), "java:script".into(), "q?".into()]);
        assert!(
            page.contains("<h1>/a&amp;b</h1>") && page.contains("href=\"./%3Cx%3E\">&lt;x&gt;<"),
            "{page}"
        );
        assert!(page.contains("href=\"./java:script\"") && page.contains("href=\"./q%3F\""), "{page}");
    }
}
