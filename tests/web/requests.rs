//! Plain HTTP requests to a service, one connection each: a kept connection would only ever meet one pod.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time from one request of a load to the next: 50 a second.
const PERIOD: Duration = Duration::from_millis(20);

/// What came back: the status code, or 0 and the reason when nothing did.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub body: String,
}

impl Answer {
    /// The pod that the example's web server names in its answer.
    pub fn pod_name(&self) -> Option<String> {
        let mut words =
            self.body.split(|character: char| !character.is_ascii_alphanumeric() && character != '-');
        words.find(|word| word.starts_with("web-")).map(str::to_owned)
    }
}

/// GETs `/` on port 80 of an address.
pub fn get(address: &str) -> Answer {
    exchange(address).unwrap_or_else(|error| Answer { code: 0, body: error.to_string() })
}

fn exchange(address: &str) -> std::io::Result<Answer> {
    let address = SocketAddr::new(address.parse().map_err(std::io::Error::other)?, 80);
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Answer { code: code.unwrap_or(0), body: body.to_owned() })
}

/// Requests at a steady rate until stopped; one that was late does not shift those after it.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: JoinHandle<Report>,
}

/// What a load saw.
pub struct Report {
    pub sent: usize,
    pub failures: Vec<String>,
    elapsed: Duration,
}

impl Report {
    /// Requests per second.
    pub fn rate(&self) -> f64 {
        self.sent as f64 / self.elapsed.as_secs_f64()
    }
}

impl Load {
    pub fn start(address: &str) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = std::thread::spawn({
            let (address, stop, sent) = (address.to_owned(), Arc::clone(&stop), Arc::clone(&sent));
            move || send(&address, &stop, &sent)
        });
        Self { stop, sent, thread }
    }

    /// Requests sent so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn send(address: &str, stop: &AtomicBool, sent: &AtomicUsize) -> Report {
    let start = Instant::now();
    let mut report = Report { sent: 0, failures: Vec::new(), elapsed: Duration::ZERO };
    while !stop.load(Ordering::Relaxed) {
        let due = PERIOD * u32::try_from(report.sent).unwrap();
        std::thread::park_timeout(due.saturating_sub(start.elapsed()));
        let answer = get(address);
        report.sent += 1;
        sent.store(report.sent, Ordering::Relaxed);
        if answer.code != 200 {
            report.failures.push(format!("request {}: {answer:?}", report.sent));
        }
    }
    report.elapsed = start.elapsed();
    report
}
