//! Between DNS messages and the zone.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use hickory_proto::op::{Edns, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::dns::zone::{Answer, Fact, Question, Zone};

/// How long clients may remember an answer, as CoreDNS has it: endpoints change within seconds.
const TTL_SECONDS: u32 = 5;
/// Largest UDP answer: what fits everywhere without fragments (DNS flag day 2020).
const UDP_BYTES_MAX: u16 = 1232;

/// Answers requests from a shared zone.
pub(super) struct Handler {
    pub(super) zone: Arc<RwLock<Zone>>,
}

/// The parts of an answer that the zone decides.
struct Reply {
    code: ResponseCode,
    is_authoritative: bool,
    records: Vec<Record>,
    /// Goes with answers that say "no", so that clients know how long to believe it.
    authority: Option<Record>,
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let reply = self.reply(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = reply.is_authoritative;
        metadata.response_code = reply.code;
        // Without this the library cuts UDP answers at 512 bytes, whatever the client offered.
        let edns = request.edns.as_ref().map(|_| {
            let mut edns = Edns::new();
            edns.set_max_payload(request.max_payload().min(UDP_BYTES_MAX));
            edns
        });
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, &reply.records, [], reply.authority.as_ref(), []);
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "DNS answer not sent");
                ResponseInfo::from(hickory_proto::op::Header { metadata, counts: Default::default() })
            }
        }
    }
}

impl Handler {
    fn reply(&self, request: &Request) -> Reply {
        let is_query =
            request.metadata.message_type == MessageType::Query && request.metadata.op_code == OpCode::Query;
        let Ok(info) = request.request_info() else { return Reply::refusal(ResponseCode::FormErr) };
        if !is_query || info.query.query_class() != DNSClass::IN {
            return Reply::refusal(ResponseCode::NotImp);
        }
        let name = Name::from(info.query.name()).to_ascii();
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
        let answer = zone.answer(name.trim_end_matches('.'), question(info.query.query_type()));
        reply(zone.domain(), answer).unwrap_or_else(|| Reply::refusal(ResponseCode::ServFail))
    }
}

impl Reply {
    fn refusal(code: ResponseCode) -> Self {
        Self { code, is_authoritative: false, records: Vec::new(), authority: None }
    }
}

fn question(record_type: RecordType) -> Question {
    match record_type {
        RecordType::A | RecordType::ANY => Question::Address,
        RecordType::CNAME => Question::Alias,
        RecordType::SRV => Question::Service,
        RecordType::PTR => Question::Pointer,
        RecordType::TXT => Question::Text,
        RecordType::SOA => Question::Authority,
        _ => Question::Other,
    }
}

/// Returns nothing when a name in the answer cannot be written, as an alias that nobody checked might.
fn reply(domain: &str, answer: Answer) -> Option<Reply> {
    let (code, facts) = match answer {
        Answer::Facts(facts) => (ResponseCode::NoError, facts),
        Answer::NoData => (ResponseCode::NoError, Vec::new()),
        Answer::NoName => (ResponseCode::NXDomain, Vec::new()),
        // There is nobody to ask: said at once, so that clients do not wait for a timeout.
        Answer::NotHere => return Some(Reply::refusal(ResponseCode::ServFail)),
    };
    let records = facts.iter().map(|(name, fact)| record(domain, name, fact)).collect::<Option<Vec<_>>>()?;
    let authority = if records.is_empty() { Some(record(domain, domain, &Fact::Authority)?) } else { None };
    Some(Reply { code, is_authoritative: true, records, authority })
}

fn record(domain: &str, name: &str, fact: &Fact) -> Option<Record> {
    let data = match fact {
        Fact::Address(address) => RData::A(A(*address)),
        Fact::Alias(target) => RData::CNAME(CNAME(absolute(target)?)),
        Fact::Pointer(target) => RData::PTR(PTR(absolute(target)?)),
        Fact::Text(text) => RData::TXT(TXT::new(vec![text.clone()])),
        // Equal priority and weight: any of them.
        Fact::Service { port, target } => RData::SRV(SRV::new(0, 100, *port, absolute(target)?)),
        Fact::Authority => RData::SOA(authority(domain)?),
    };
    Some(Record::from_rdata(absolute(name)?, TTL_SECONDS, data))
}

/// Serial and timers are for secondaries, which do not exist; the last number bounds how long "no" is remembered.
fn authority(domain: &str) -> Option<SOA> {
    let server = absolute(&format!("ns.dns.{domain}"))?;
    let person = absolute(&format!("hostmaster.{domain}"))?;
    Some(SOA::new(server, person, 1, 7200, 1800, 86_400, TTL_SECONDS))
}

fn absolute(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
}
