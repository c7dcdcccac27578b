//! What is written down of an app: what its supervisor is to run (`app.json`),
//! and what ran last and ended well (`ended.json`). The shape is the files' own,
//! whatever becomes of the topology: supervisors of earlier versions run on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::record::Field;
use crate::spec::Memory;
use crate::topology::{App, AppLimits, AppRestart, AppUser, AppWebserver, Name, NamespaceName, Workload};

/// The version that is written. A later one may say more; what is read here
/// means the same in each.
const VERSION: u32 = 1;

/// An app. No field goes, and none gets another type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppRecord {
    version: Field<u32>,
    name: Field<Name>,
    namespace: Field<NamespaceName>,
    workload: Field<WorkloadRecord>,
    restart: Field<AppRestart>,
    isolate: Field<bool>,
    limits: Field<LimitsRecord>,
    /// The first version's; null, or two numbers.
    user: Field<Option<IdsRecord>>,
    /// What the spec says, in its words.
    runs_as: Field<Option<AppUser>>,
    environment: Field<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WorkloadRecord {
    Command(Vec<String>),
    Webserver {
        port: u16,
        #[serde(default)]
        directory: Option<PathBuf>,
        #[serde(default)]
        greeting: Option<String>,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct LimitsRecord {
    /// MiB.
    memory: Option<u32>,
    millicpus: Option<u32>,
    pids: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct IdsRecord {
    uid: u32,
    gid: u32,
}

/// A field of a record that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its {0} can't be understood: another version of hostctl wrote it")]
pub struct Strange(&'static str);

impl From<&App> for AppRecord {
    fn from(app: &App) -> Self {
        // Each field is looked at: one that is added has to be decided about.
        let App { name, namespace, workload, restart, isolate, limits, user, environment } = app.clone();
        let AppLimits { memory, millicpus, pids } = limits;
        Self {
            version: Field::Is(VERSION),
            name: Field::Is(name),
            namespace: Field::Is(namespace),
            workload: Field::Is(match workload {
                Workload::Command(words) => WorkloadRecord::Command(words),
                Workload::Webserver(AppWebserver { port, directory, greeting }) => {
                    WorkloadRecord::Webserver { port, directory, greeting }
                }
            }),
            restart: Field::Is(restart),
            isolate: Field::Is(isolate),
            limits: Field::Is(LimitsRecord { memory: memory.map(Memory::mebibytes), millicpus, pids }),
            user: Field::Is(None),
            runs_as: Field::Is(user),
            environment: Field::Is(environment),
        }
    }
}

impl AppRecord {
    /// The app, whole.
    ///
    /// # Errors
    /// Where one of its fields can't be understood: it isn't run with less than
    /// was meant.
    pub fn app(&self) -> Result<App, Strange> {
        let strange = |key| move || Strange(key);
        let limits = self.limits.clone().or(LimitsRecord::default()).ok_or_else(strange("limits"))?;
        let memory = limits.memory.map(|mebibytes| format!("{mebibytes}M").parse::<Memory>());
        let ids = self.user.clone().or(None).ok_or_else(strange("user"))?;
        let said = self.runs_as.clone().or(None).ok_or_else(strange("user"))?;
        Ok(App {
            name: self.name.get().cloned().ok_or_else(strange("name"))?,
            namespace: self.namespace.get().cloned().ok_or_else(strange("namespace"))?,
            workload: match self.workload.get().cloned().ok_or_else(strange("workload"))? {
                WorkloadRecord::Command(words) => Workload::Command(words),
                WorkloadRecord::Webserver { port, directory, greeting } => {
                    Workload::Webserver(AppWebserver { port, directory, greeting })
                }
            },
            restart: self.restart.get().copied().ok_or_else(strange("restart"))?,
            isolate: self.isolate.or(false).ok_or_else(strange("isolate"))?,
            limits: AppLimits {
                memory: memory.transpose().map_err(|_| Strange("limits"))?,
                millicpus: limits.millicpus,
                pids: limits.pids,
            },
            user: said.or(ids.map(|IdsRecord { uid, gid }| AppUser::Ids { uid, gid })),
            environment: self.environment.clone().or(BTreeMap::new()).ok_or_else(strange("environment"))?,
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
        let runs = if matches!(wanted.workload, Workload::Command(_)) { "command" } else { "webserver" };
        let same = [
            ("name", *name == wanted.name),
            ("namespace", *namespace == wanted.namespace),
            (runs, *workload == wanted.workload),
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
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::app::test_app::app;
    use crate::topology::test_topology::topology;

    const KEPT: &str = "tests/data/records/82569b8/apps";

    fn read(text: &str) -> AppRecord {
        crate::record::parse(text.as_bytes()).unwrap()
    }

    fn kept(path: &str) -> String {
        let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(top.join(KEPT).join(path)).unwrap()
    }

    fn edited(edit: impl FnOnce(&mut Value)) -> AppRecord {
        let mut value = serde_json::to_value(AppRecord::from(&app())).unwrap();
        edit(&mut value);
        read(&value.to_string())
    }

    #[test]
    fn what_the_first_version_wrote_is_what_its_spec_asks_for() {
        let topology = topology(&kept("host.toml"));
        let records = ["page/app.json", "site/app.json", "script/app.json", "once/ended.json"];
        for path in records {
            let record = read(&kept(&format!("run/hostctl/apps/prod-web/{path}")));
            let name = path.split('/').next().unwrap();
            let wanted = topology.apps.iter().find(|app| app.name.as_str() == name).unwrap();
            assert_eq!(record.differences(wanted), [""; 0], "{path}");
            assert_eq!(record.app().as_ref(), Ok(wanted), "{path}");
        }
    }

    #[test]
    fn what_its_supervisors_say_is_understood() {
        for line in kept("status.jsonl").lines() {
            let reply: Value = serde_json::from_str(line).unwrap();
            let status: crate::app::AppReport = serde_json::from_value(reply["ok"].clone()).unwrap();
            assert_eq!((status.state, status.namespace.as_str()), (crate::app::State::Running, "prod-web"));
        }
    }

    #[test]
    fn what_is_written_reads_back_whatever_it_is() {
        let server = AppWebserver { port: 80, directory: Some("/srv/www".into()), greeting: None };
        let limits = AppLimits { memory: Some("64M".parse().unwrap()), millicpus: Some(500), pids: Some(20) };
        for app in [
            app(),
            App { workload: Workload::Webserver(server), ..app() },
            App { user: Some(AppUser::Name("www-data".into())), isolate: true, limits, ..app() },
            App { user: Some(AppUser::Ids { uid: 1000, gid: 100 }), ..app() },
        ] {
            let text = serde_json::to_string(&AppRecord::from(&app)).unwrap();
            assert!(text.starts_with("{\"version\":1,"), "{text}");
            assert_eq!(read(&text).app(), Ok(app.clone()));
            assert_eq!(read(&text).differences(&app), [""; 0]);
        }
    }

    #[test]
    fn the_first_versions_two_numbers_are_a_user() {
        let record = edited(|value| {
            value["user"] = json!({ "uid": 7, "gid": 8 });
            value.as_object_mut().unwrap().remove("runs_as");
        });
        assert_eq!(record.app().unwrap().user, Some(AppUser::Ids { uid: 7, gid: 8 }));
    }

    #[test]
    fn what_a_later_version_adds_says_nothing() {
        let later = edited(|value| {
            value["version"] = 9.into();
            value["network_class"] = "fast".into();
        });
        assert_eq!(later.differences(&app()), [""; 0]);
        let later = edited(|value| value["workload"] = json!({ "webserver": { "port": 80, "tls": true } }));
        assert!(matches!(later.app().unwrap().workload, Workload::Webserver(_)));
    }

    #[test]
    fn what_cant_be_understood_is_named_and_never_left_out() {
        for (key, named) in [
            ("user", "user"),
            ("runs_as", "user"),
            ("isolate", "isolate"),
            ("limits", "limits"),
            ("environment", "environment"),
            ("workload", "workload"),
        ] {
            let record = edited(|value| value[key] = json!([["?"]]));
            assert_eq!(record.app(), Err(Strange(named)));
            assert_eq!(record.differences(&app()), [named]);
        }
        assert!(read("{}").app().is_err());
    }

    #[test]
    fn a_difference_is_named_by_its_key() {
        let record = AppRecord::from(&app());
        let other = App { user: Some(AppUser::Id(1000)), isolate: true, ..app() };
        assert_eq!(record.differences(&other), ["isolate", "user"]);
    }
}
