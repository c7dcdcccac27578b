//! Each app of the spec → the namespace that it runs in.

use crate::spec::SpecPath;

use super::compile::Compiler;
use super::{App, Namespace};

impl Compiler<'_> {
    pub(super) fn apps(&mut self, namespaces: &[Namespace]) -> Vec<App> {
        let spec = self.spec;
        let mut apps = Vec::new();
        for (key, app) in &spec.apps {
            let path = SpecPath::keys(["apps", key]);
            let name = self.name(&path, key);
            match (&app.command, &app.webserver) {
                (Some(_), Some(_)) => self.issue(
                    path.clone().key("webserver"),
                    "a command and a web server: one of them",
                    "keep command = […] or webserver = {…}",
                ),
                (None, None) => {
                    self.consequence(
                        path.clone(),
                        "nothing to run",
                        "name a command = […] or a webserver = {…}",
                    );
                }
                (Some(command), None) if command.first().is_none_or(String::is_empty) => self.issue(
                    path.clone().key("command"),
                    "the command is empty",
                    "name a program and its arguments: command = [\"sleep\", \"60\"]",
                ),
                (None, Some(server)) if server.port == 0 => {
                    self.issue(path.clone().key("webserver").key("port"), "0 isn't a port", "1 to 65535 are");
                }
                (None, Some(server)) if server.directory.as_ref().is_some_and(|path| !path.is_absolute()) => {
                    self.issue(
                        path.clone().key("webserver").key("directory"),
                        "the path isn't absolute",
                        "begin it with /",
                    )
                }
                _ => {}
            }
            if !self.reference(path.clone().key("network"), "network", &app.network, &spec.networks) {
                continue;
            }
            let Some(network) = spec.networks.get(app.network.as_str()) else { continue };
            if !self.reference(path.clone().key("subnet"), "subnet", &app.subnet, &network.subnets) {
                continue;
            }
            let found = namespaces.iter().find(|namespace| {
                namespace.port.network == app.network && namespace.port.subnet == app.subnet
            });
            let (Some(found), Some(name)) = (found, name) else {
                let message = format!("subnet {} has no namespace to run in", app.subnet);
                let hint = "set namespace = true in the subnet";
                self.consequence(path.clone().key("subnet"), message, hint);
                continue;
            };
            apps.push(App { name, namespace: found.name.clone(), spec: app.clone() });
        }
        apps
    }
}
