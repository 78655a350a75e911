//! Decision tables for each built-in identity.

use super::*;

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        uid: String::new(),
    }
}

/// `verb group/resource/subresource namespace name`, `-` for empty.
fn ask(text: &str) -> Attributes {
    let field = |text: &str| if text == "-" { String::new() } else { text.to_owned() };
    let words: Vec<_> = text.split(' ').collect();
    let parts: Vec<_> = words[1].split('/').collect();
    Attributes {
        verb: words[0].to_owned(),
        group: field(parts[0]),
        resource: field(parts[1]),
        subresource: field(parts.get(2).unwrap_or(&"-")),
        namespace: field(words.get(2).unwrap_or(&"-")),
        name: field(words.get(3).unwrap_or(&"-")),
        ..Attributes::default()
    }
}

fn check(user: &User, request: &str, allowed: bool) {
    let decision = decide(user, &ask(request));
    assert_eq!(decision == Decision::Allow, allowed, "{} {request}: {decision:?}", user.name);
}

#[test]
fn masters_may_do_everything() {
    check(&user("kubernetes-admin", &["system:masters"]), "delete -/secrets kube-system x", true);
}

#[test]
fn nodes_reach_only_what_belongs_to_them() {
    let node = user("system:node:n1", &["system:nodes", "system:authenticated"]);
    check(&node, "update -/nodes/status - n1", true);
    check(&node, "update -/nodes/status - n2", false);
    check(&node, "delete -/nodes - n1", false);
    check(&node, "update coordination.k8s.io/leases kube-node-lease n1", true);
    check(&node, "update coordination.k8s.io/leases kube-node-lease n2", false);
    check(&node, "update coordination.k8s.io/leases kube-system n1", false);
    check(&node, "list -/pods -", false);
    check(&node, "list -/secrets default", false);
    check(&node, "watch discovery.k8s.io/endpointslices -", true);
    check(&node, "create apps/deployments default", false);
    let own_pods = Attributes { selected_node: "n1".to_owned(), ..ask("watch -/pods -") };
    assert_eq!(decide(&node, &own_pods), Decision::Allow);
    let others_pods = Attributes { selected_node: "n2".to_owned(), ..ask("watch -/pods -") };
    assert_eq!(decide(&node, &others_pods), Decision::Deny);
    let secret = ask("get -/secrets default s");
    assert_eq!(decide(&node, &secret), Decision::IfPodReferences { node: "n1".to_owned() });
}

#[test]
fn a_node_name_counts_only_in_the_group_of_nodes() {
    check(&user("system:node:n1", &["system:authenticated"]), "update -/nodes/status - n1", false);
}

#[test]
fn controllers_and_scheduler_have_their_own_rights() {
    let controllers = user("system:kube-controller-manager", &["system:authenticated"]);
    check(&controllers, "create -/pods default", true);
    check(&controllers, "create -/secrets default", false);
    check(&controllers, "create -/pods/exec default p", false);
    let scheduler = user("system:kube-scheduler", &["system:authenticated"]);
    check(&scheduler, "create -/pods/binding default p", true);
    check(&scheduler, "create -/pods default", false);
}

#[test]
fn strangers_see_only_health_and_version() {
    let anonymous = User::anonymous();
    let path =
        |path: &str| Attributes { verb: "get".to_owned(), path: path.to_owned(), ..Attributes::default() };
    assert_eq!(decide(&anonymous, &path("/healthz")), Decision::Allow);
    assert_eq!(decide(&anonymous, &path("/api")), Decision::Deny);
    check(&anonymous, "list -/pods default", false);
    assert_eq!(
        refusal(&anonymous, &ask("list -/pods default")).message,
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(
        refusal(&anonymous, &path("/api")).message,
        "forbidden: User \"system:anonymous\" cannot get path \"/api\""
    );
}
