//! Serves a folder of runs to a browser: its index, made anew each time, and the files in it. Nothing outside the folder.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use super::{INDEX, PAGE, index_page};

/// Serves until `stop`.
///
/// # Errors
/// When the folder is not there or the listener fails.
pub async fn serve(listener: TcpListener, folder: &Path, stop: CancellationToken) -> anyhow::Result<()> {
    let root = Arc::new(folder.canonicalize().with_context(|| folder.display().to_string())?);
    let routes = Router::new().route("/", get(front)).route("/{*path}", get(file)).with_state(root);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

async fn front(State(root): State<Arc<PathBuf>>) -> Response {
    let made = tokio::task::spawn_blocking(move || index_page(&root)).await;
    match made {
        Ok(Ok(index)) => Html(index).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the index could not be made\n").into_response(),
    }
}

async fn file(State(root): State<Arc<PathBuf>>, UrlPath(path): UrlPath<String>) -> Response {
    let missing = || (StatusCode::NOT_FOUND, "there is no such file in this folder\n").into_response();
    let Some(path) = resolve(&root, &path) else { return missing() };
    match tokio::fs::File::open(&path).await {
        Ok(file) => {
            let body = Body::from_stream(ReaderStream::new(file));
            ([(header::CONTENT_TYPE, content_type(&path))], body).into_response()
        }
        Err(_) => missing(),
    }
}

/// Returns the file that a path names, if it lies in the folder: with all links followed, too.
fn resolve(root: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let found = root.join(path).canonicalize().ok().filter(|found| found.starts_with(root))?;
    if found.is_file() {
        return Some(found);
    }
    // Of a folder, the page that tells of it. It may be a link as well.
    let pages = [PAGE, INDEX].map(|page| found.join(page));
    pages
        .into_iter()
        .filter_map(|page| page.canonicalize().ok())
        .find(|page| page.starts_with(root) && page.is_file())
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some(_) | None => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// A folder to serve, with a secret beside it and a link that leads there.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let root = outside.path().join("runs");
        std::fs::create_dir_all(root.join("5")).unwrap();
        std::fs::write(root.join("5/report.html"), "the page").unwrap();
        std::fs::write(root.join("5/n1.log"), "the log").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), root.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("up")).unwrap();
        (outside, root)
    }

    async fn ask(root: &Path, targets: &[&str]) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, root) = (CancellationToken::new(), root.to_owned());
        let serving = tokio::spawn({
            let stop = stop.clone();
            async move { serve(listener, &root, stop).await }
        });
        let mut answers = Vec::new();
        for target in targets {
            // Raw, since a client library would tidy the path up.
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answers.push(answer);
        }
        stop.cancel();
        serving.await.unwrap().unwrap();
        answers
    }

    #[tokio::test]
    async fn index_and_files_are_served() {
        let (_outside, root) = folder();
        let answers = ask(&root, &["/", "/5/report.html", "/5", "/5/n1.log", "/6"]).await;
        assert!(answers[0].contains("text/html") && answers[0].contains("Runs in runs"));
        assert!(answers[1].contains("text/html") && answers[1].contains("the page"));
        assert!(answers[2].contains("the page"));
        assert!(answers[3].contains("text/plain") && answers[3].contains("the log"));
        assert!(answers[4].starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn nothing_outside_the_folder_is_served() {
        let (outside, root) = folder();
        let whole = format!("/{}", outside.path().join("secret").display());
        let paths = [
            "/../secret",
            "/5/../../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/5/..%2f..%2fsecret",
            "/link",
            "/up/secret",
            "/%2fetc%2fpasswd",
            &whole,
        ];
        for (answer, path) in ask(&root, &paths).await.iter().zip(paths) {
            assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
            assert!(!answer.contains("\r\n\r\nsecret"), "{path}");
        }
    }
}
