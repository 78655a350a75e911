//! Gives every living namespace its `default` service account and the cluster's CA as a ConfigMap.

use std::sync::Arc;

use client::ObjectKey;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::runtime::caches::ROOT_CA_NAME;
use crate::runtime::{Action, Caches, Context, Controller, Plan};

/// The account of pods that name none.
const DEFAULT_ACCOUNT: &str = "default";
/// Key of the CA within the ConfigMap.
const CA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
     such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
     Kubernetes clusters.";

/// Reads the caches for namespaces.
#[derive(Debug)]
pub struct ServiceAccountController {
    pub caches: Caches,
    /// The CA to publish; empty publishes none.
    pub ca_pem: Arc<str>,
}

/// What a decision about a namespace needs.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub namespace: Option<Arc<Namespace>>,
    pub account: Option<Arc<ServiceAccount>>,
    pub root_ca: Option<Arc<ConfigMap>>,
    pub ca_pem: Arc<str>,
}

impl Controller for ServiceAccountController {
    type Observed = Observed;

    const NAME: &'static str = "serviceaccount-controller";

    fn observe(&self, key: &ObjectKey) -> Observed {
        Observed {
            namespace: self.caches.namespaces.get("", &key.name),
            account: self.caches.service_accounts.get(&key.name, DEFAULT_ACCOUNT),
            root_ca: self.caches.root_cas.get(&key.name, ROOT_CA_NAME),
            ca_pem: Arc::clone(&self.ca_pem),
        }
    }

    fn reconcile(observed: &Observed, _context: &Context) -> Plan {
        let living = observed.namespace.as_ref().filter(|found| found.metadata.deletion_timestamp.is_none());
        let Some(namespace) = living else { return Plan::nothing() };
        let mut plan = Plan::nothing();
        if observed.account.is_none() {
            plan.actions.push(create(&ServiceAccount {
                metadata: metadata(namespace, DEFAULT_ACCOUNT),
                ..ServiceAccount::default()
            }));
        }
        publish_ca(namespace, observed, &mut plan);
        plan
    }
}

fn publish_ca(namespace: &Namespace, observed: &Observed, plan: &mut Plan) {
    if observed.ca_pem.is_empty() {
        return;
    }
    let data = Some([(CA_KEY.to_owned(), observed.ca_pem.to_string())].into());
    match &observed.root_ca {
        None => {
            let mut metadata = metadata(namespace, ROOT_CA_NAME);
            metadata.annotations = Some([(DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned())].into());
            plan.actions.push(create(&ConfigMap { metadata, data, ..ConfigMap::default() }));
        }
        Some(present) if present.data != data => {
            plan.actions.push(Action::update(&ConfigMap { data, ..ConfigMap::clone(present) }));
        }
        Some(_) => {}
    }
}

fn metadata(namespace: &Namespace, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: namespace.metadata.name.clone(),
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// The object's name makes the create idempotent.
fn create<K: client::ApiObject>(object: &K) -> Action {
    Action::create(object, String::new())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn observed() -> Observed {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("web".into());
        Observed { namespace: Some(Arc::new(namespace)), ca_pem: "PEM".into(), ..Observed::default() }
    }

    fn names(observed: &Observed) -> Vec<String> {
        let context = Context { now: Timestamp::UNIX_EPOCH, last_failure: None };
        let plan = ServiceAccountController::reconcile(observed, &context);
        plan.actions.iter().map(|action| format!("{}/{}", action.namespace, action.name)).collect()
    }

    #[test]
    fn new_namespace_gets_account_and_ca() {
        assert_eq!(names(&observed()), ["web/default", "web/kube-root-ca.crt"]);
    }

    #[test]
    fn namespace_on_its_way_out_gets_nothing() {
        let mut leaving = observed();
        let namespace = Arc::make_mut(leaving.namespace.as_mut().unwrap());
        namespace.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert_eq!(names(&leaving), Vec::<String>::new());
    }

    #[test]
    fn changed_ca_is_restored() {
        let mut changed = observed();
        changed.account = Some(Arc::default());
        let mut root_ca = ConfigMap {
            metadata: metadata(changed.namespace.as_ref().unwrap(), ROOT_CA_NAME),
            ..ConfigMap::default()
        };
        changed.root_ca = Some(Arc::new(root_ca.clone()));
        assert_eq!(names(&changed), ["web/kube-root-ca.crt"]);
        root_ca.data = Some([("ca.crt".to_owned(), "PEM".to_owned())].into());
        changed.root_ca = Some(Arc::new(root_ca));
        assert_eq!(names(&changed), Vec::<String>::new());
    }
}
