//! A small run for tests: names that no other part of the program knows, a violation, a text that tries to be a script.

use super::recorded::{Recorded, Texts};

/// A client that was told something evil.
pub(super) const EVIL: &str = "<script>alert(1)</script>";

pub(super) fn texts() -> Texts {
    let evil = format!(r#""error":"{EVIL}""#);
    let lines = [
        r#"{"history_format":1}"#,
        r#"{"index":0,"time":1000000,"type":"invoke","process":0,"f":"dance","key":"k","value":{"step":1},"node":"n1"}"#,
        r#"{"index":1,"time":3000000,"type":"ok","process":0,"f":"dance","key":"k","value":"danced","node":"n1","rev":2}"#,
        r#"{"index":2,"time":4000000,"type":"invoke","process":"nemesis","f":"flood","node":"n1","value":{"fault":0,"phase":"begin","members":["n1"],"leader":"n1","hit_leader":true}}"#,
        r#"{"index":3,"time":5000000,"type":"invoke","process":1,"f":"dance","key":"k","node":"n2"}"#,
        r#"{"index":4,"time":6000000,"type":"invoke","process":0,"f":"read","key":"k","node":"n2"}"#,
        r#"{"index":5,"time":900000000,"type":"info","process":1,"f":"dance","key":"k","node":"n2",EVIL}"#,
        r#"{"index":6,"time":950000000,"type":"ok","process":0,"f":"read","key":"k","value":null,"node":"n2","rev":1}"#,
        r#"{"index":7,"time":1000000000,"type":"info","process":"nemesis","f":"flood","node":"n1","value":{"fault":0,"phase":"end","leader":"n2","witness":{"litres":9}}}"#,
        r#"{"index":8,"time":1100000000,"type":"invoke","process":0,"f":"dance","key":"k","node":"n1"}"#,
        r#"{"index":9,"time":1200000000,"type":"fail","process":0,"f":"dance","key":"k","node":"n1","error":"no music"}"#,
        r#"{"index":10,"time":1300000000,"type":"invoke","process":"nemesis","f":"kill","node":"n2"}"#,
        r#"{"index":11,"time":1400000000,"type":"info","process":"nemesis","f":"kill","node":"n2","value":{"witness":null}}"#,
        r#"{"index":12,"time":1500000000,"type":"invoke","process":0,"f":"dance","key":"k","node":"n1"}"#,
        r#"{"index":13,"time":1600000000,"type":"ok","process":0,"f":"dance","key":"k","node":"n1","rev":3}"#,
        r#"{"index":14,"time":1700000000,"type":"info","process":"nemesis","f":"recover","value":{"silent":[]}}"#,
    ];
    let result = r##"{
        "verdict": "fail",
        "violations": [{"rule": "stale read", "sentence": "#4 misses what #0 wrote & <b>more</b>", "operations": [4, 0]}],
        "reasons": [],
        "checkers": [{"name": "witness", "scope": "4 operations", "violations": [{}], "unknown": []}],
        "counts": {"operations": 3, "faults": {"kill": 1}}
    }"##;
    Texts {
        name: "example".to_owned(),
        modified: "2026-11-27T10:00:00Z".to_owned(),
        options:
            r#"{"reproduce": "keelson chaos run --workload ball --members 2 --seed 5 --binary /opt/keelson"}"#
                .to_owned(),
        history: lines.join("\n").replace("EVIL", &evil) + "\n",
        result: result.to_owned(),
        logs: vec![("n1".to_owned(), 2), ("n2".to_owned(), 2)],
    }
}

pub(super) fn run() -> Recorded {
    Recorded::read(&texts())
}
