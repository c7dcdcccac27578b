//! An app for tests.

use crate::topology::{App, AppLimits, AppRestart, Name, NamespaceName, Workload};

pub(super) fn app() -> App {
    App {
        name: Name::new("api").unwrap(),
        namespace: NamespaceName::new("prod-web").unwrap(),
        workload: Workload::Command(vec!["sleep".into(), "1".into()]),
        restart: AppRestart::OnFailure,
        isolate: false,
        limits: AppLimits::default(),
        user: None,
        environment: [("A".to_string(), "b".to_string())].into(),
    }
}
