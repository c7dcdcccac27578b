//! What is written down of an app: what its supervisor is to run (`app.json`),
//! and what ran last and ended well (`ended.json`). A newer hostctl reads what
//! an older one wrote, and the other way round, as far as it goes.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::spec::Memory;
use crate::topology::{App, AppLimits, AppRestart, AppUser, AppWebserver, Name, NamespaceName, Workload};

/// The form that is written:
///
/// 1. without a version; `user` was never said, or `{"uid": …, "gid": …}`.
/// 2. `user` is what the spec says.
const VERSION: u32 = 2;

/// A record, as it was read: fields that this version doesn't know are there
/// and say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record(Map<String, Value>);

/// A field of a record that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its {0} can't be understood: another version of hostctl wrote it")]
pub struct Strange(&'static str);

/// The fields, as they are written.
#[derive(Debug, Serialize)]
struct Written<'a> {
    version: u32,
    name: &'a Name,
    namespace: &'a NamespaceName,
    workload: Runs,
    restart: AppRestart,
    isolate: bool,
    limits: Limits,
    user: Option<&'a AppUser>,
    environment: &'a BTreeMap<String, String>,
}

/// Limits, in the units of the first version.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Limits {
    /// In MiB.
    memory: Option<u32>,
    millicpus: Option<u32>,
    pids: Option<u32>,
}

/// A user, in any version's form.
#[derive(Deserialize)]
#[serde(untagged)]
enum User {
    Text(AppUser),
    Ids { uid: u32, gid: u32 },
}

/// A workload, with what another version says besides.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Runs {
    Command(Vec<String>),
    Webserver(Server),
}

#[derive(Debug, Serialize, Deserialize)]
struct Server {
    port: u16,
    #[serde(default)]
    directory: Option<std::path::PathBuf>,
    #[serde(default)]
    greeting: Option<String>,
}

impl Runs {
    fn of(workload: &Workload) -> Self {
        match workload.clone() {
            Workload::Command(words) => Self::Command(words),
            Workload::Webserver(AppWebserver { port, directory, greeting }) => {
                Self::Webserver(Server { port, directory, greeting })
            }
        }
    }
}

impl Record {
    /// What is written of `app`.
    pub fn of(app: &App) -> Self {
        let written = Written {
            version: VERSION,
            name: &app.name,
            namespace: &app.namespace,
            workload: Runs::of(&app.workload),
            restart: app.restart,
            isolate: app.isolate,
            limits: Limits {
                memory: app.limits.memory.map(Memory::mebibytes),
                millicpus: app.limits.millicpus,
                pids: app.limits.pids,
            },
            user: app.user.as_ref(),
            environment: &app.environment,
        };
        match serde_json::to_value(written) {
            Ok(Value::Object(fields)) => Self(fields),
            // A path that is no text; it can't be read back, and nothing starts.
            _ => Self(Map::new()),
        }
    }

    /// The app, whole.
    ///
    /// # Errors
    /// Where one of its fields can't be understood: it isn't run with less than
    /// was meant.
    pub fn app(&self) -> Result<App, Strange> {
        let workload = match self.needed("workload")? {
            Runs::Command(words) => Workload::Command(words),
            Runs::Webserver(Server { port, directory, greeting }) => {
                Workload::Webserver(AppWebserver { port, directory, greeting })
            }
        };
        let limits: Limits = self.field("limits")?.unwrap_or_default();
        let memory = limits.memory.map(|mebibytes| format!("{mebibytes}M").parse::<Memory>());
        Ok(App {
            name: self.needed("name")?,
            namespace: self.needed("namespace")?,
            workload,
            restart: self.needed("restart")?,
            isolate: self.field("isolate")?.unwrap_or_default(),
            limits: AppLimits {
                memory: memory.transpose().map_err(|_| Strange("limits"))?,
                millicpus: limits.millicpus,
                pids: limits.pids,
            },
            user: self.field("user")?.map(|user| match user {
                User::Text(user) => user,
                User::Ids { uid, gid } => AppUser::Ids { uid, gid },
            }),
            environment: self.field("environment")?.unwrap_or_default(),
        })
    }

    /// The keys of the spec by which an app that was started from this isn't
    /// what `wanted` asks for; also those of which it can't be known.
    pub fn differences(&self, wanted: &App) -> Vec<&'static str> {
        let was = match self.app() {
            Ok(was) => was,
            Err(Strange(key)) => return vec![key],
        };
        let App { name, namespace, workload, restart, isolate, limits, user, environment } = &was;
        let same = [
            ("name", *name == wanted.name),
            ("namespace", *namespace == wanted.namespace),
            (
                if matches!(wanted.workload, Workload::Command(_)) { "command" } else { "webserver" },
                *workload == wanted.workload,
            ),
            ("restart", *restart == wanted.restart),
            ("isolate", *isolate == wanted.isolate),
            ("limits", *limits == wanted.limits),
            ("user", *user == wanted.user),
            ("environment", *environment == wanted.environment),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }

    /// Whether an app that was started from this is what `wanted` asks for.
    pub fn is_of(&self, wanted: &App) -> bool {
        self.differences(wanted).is_empty()
    }

    /// A field that every version writes.
    fn needed<T: DeserializeOwned>(&self, key: &'static str) -> Result<T, Strange> {
        self.field(key)?.ok_or(Strange(key))
    }

    fn field<T: DeserializeOwned>(&self, key: &'static str) -> Result<Option<T>, Strange> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone()).map(Some).map_err(|_| Strange(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::test_app::app;

    /// As the first version wrote them; see tests/data/records/app/1/README.md.
    const FIRST: [(&str, &str); 3] = [
        ("page", include_str!("../../tests/data/records/app/1/page.json")),
        ("site", include_str!("../../tests/data/records/app/1/site.json")),
        ("script", include_str!("../../tests/data/records/app/1/script.json")),
    ];
    const SPEC: &str = include_str!("../../tests/data/records/app/1/host.toml");

    fn read(text: &str) -> Record {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_the_first_version_wrote_is_what_its_spec_asks_for() {
        let topology = crate::topology::compile(&toml::from_str(SPEC).unwrap()).unwrap();
        for (name, text) in FIRST {
            let wanted = topology.apps.iter().find(|app| app.name.as_str() == name).unwrap();
            let record = read(text);
            assert_eq!(record.differences(wanted), [""; 0], "{name}");
            assert_eq!(record.app().as_ref(), Ok(wanted), "{name}");
        }
        let ids = FIRST[2].1.replace("\"user\":null", "\"user\":{\"uid\":7,\"gid\":8}");
        assert_eq!(read(&ids).app().unwrap().user, Some(AppUser::Ids { uid: 7, gid: 8 }));
    }

    #[test]
    fn what_is_written_reads_back_whatever_it_is() {
        let texts = FIRST.map(|(_, text)| read(text).app().unwrap());
        for app in texts.into_iter().chain([App {
            user: Some(AppUser::Name("www-data".into())),
            limits: AppLimits { memory: Some("64M".parse().unwrap()), millicpus: Some(500), pids: Some(20) },
            ..app()
        }]) {
            let text = serde_json::to_string(&Record::of(&app)).unwrap();
            assert!(text.contains("\"version\":2"), "{text}");
            assert_eq!(read(&text).app(), Ok(app.clone()));
            assert_eq!(read(&text).differences(&app), [""; 0]);
        }
    }

    #[test]
    fn what_a_later_version_adds_says_nothing() {
        let mut later = Record::of(&app());
        later.0.insert("version".into(), 9.into());
        later.0.insert("network_class".into(), "fast".into());
        assert_eq!(later.differences(&app()), [""; 0]);
        later.0.insert("workload".into(), serde_json::json!({ "webserver": { "port": 80, "tls": true } }));
        assert!(matches!(later.app().unwrap().workload, Workload::Webserver(_)));
    }

    #[test]
    fn what_cant_be_understood_is_named_and_never_left_out() {
        for (key, shown) in
            [("user", "user"), ("isolate", "isolate"), ("limits", "limits"), ("workload", "workload")]
        {
            let mut record = Record::of(&app());
            record.0.insert(key.into(), serde_json::json!([["?"]]));
            assert_eq!(record.app(), Err(Strange(shown)));
            assert_eq!(record.differences(&app()), [shown]);
        }
        assert!(read("{}").app().is_err());
    }

    #[test]
    fn a_difference_is_named_by_its_key() {
        let record = Record::of(&app());
        let other = App { user: Some(AppUser::Id(1000)), isolate: true, ..app() };
        assert_eq!(record.differences(&other), ["isolate", "user"]);
    }
}
