//! Whom an app runs as, and with which rights.

use std::io;

use nix::unistd::{Uid, User as Known};
use rustix::fs::Mode;
use rustix::thread::CapabilitySet;

use crate::confine::{User, keep_only};
use crate::ownership::UIDS;
use crate::topology::{App, AppUser, Workload};

use super::error::AppError;

/// What an app may do as root: what a container engine lets a container do.
/// Not CAP_NET_ADMIN, by which it would change the namespace's interface and
/// send what differs from what was judged; and none that gets that back.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// Gives up, for what this process executes, the capabilities that an app
/// doesn't have; it makes system calls and nothing else.
pub(super) fn limit_capabilities() -> io::Result<()> {
    keep_only(CAPABILITIES)
}

/// Takes the umask that programs expect: hostctl's own is for its own files.
/// It makes a system call and nothing else.
pub(super) fn usual_umask() {
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
}

/// Whom `app` runs as on this host; none is root, as it is.
///
/// # Errors
/// Where the host knows nobody of that name, or it is one that no app may be.
pub(super) fn of(app: &App) -> Result<Option<User>, AppError> {
    let webserver = matches!(app.workload, Workload::Webserver(_));
    let Some(wanted) = &app.user else { return Ok(webserver.then_some(User::NOBODY)) };
    let refused = |reason: &str| {
        let reason = format!("user {wanted}: {reason}");
        Err(AppError::Invalid { app: app.label(), reason })
    };
    let user = match wanted {
        AppUser::Ids { uid, gid } => Some(User { uid: *uid, gid: *gid }),
        AppUser::Name(name) => known(Known::from_name(name))?,
        AppUser::Id(uid) => known(Known::from_uid(Uid::from_raw(*uid)))?,
    };
    let Some(user) = user else {
        return refused("the host knows no such user: make one (useradd --system), or name another");
    };
    // By another name than the spec could tell.
    if [user.uid, user.gid].iter().any(|id| UIDS.contains(id)) {
        return refused("that is a user of a VM's QEMU: name another");
    }
    if user.uid == 0 && webserver {
        return refused("a web server needs no root: leave user out");
    }
    Ok((user != User { uid: 0, gid: 0 }).then_some(user))
}

fn known(found: nix::Result<Option<Known>>) -> Result<Option<User>, AppError> {
    let found = found.map_err(|error| AppError::kernel("look up a user")(error.into()))?;
    Ok(found.map(|found| User { uid: found.uid.as_raw(), gid: found.gid.as_raw() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::test_app::app;

    fn user(text: &str) -> Result<Option<User>, String> {
        let app = App { user: Some(text.parse().unwrap()), ..app() };
        of(&app).map_err(|error| error.to_string())
    }

    #[test]
    fn who_is_known_is_found_and_who_isnt_is_refused() {
        assert_eq!(of(&app()).unwrap(), None);
        assert_eq!([user("root"), user("0"), user("0:0")], [Ok(None), Ok(None), Ok(None)]);
        let daemon = user("daemon").unwrap();
        assert_eq!((daemon, user("1")), (Some(User { uid: 1, gid: 1 }), Ok(daemon)));
        assert_eq!(user("4321:1234"), Ok(Some(User { uid: 4321, gid: 1234 })));
        for unknown in ["nobody-is-called-so", "4321"] {
            let error = user(unknown).unwrap_err();
            assert!(
                error.starts_with(&format!("app prod-web/api: user {unknown}: the host knows no")),
                "{error}"
            );
        }
        assert!(user("1879048193:100").unwrap_err().contains("a VM's QEMU"));
    }

    #[test]
    fn a_web_server_is_nobody_and_never_root() {
        let server = crate::topology::AppWebserver { port: 80, directory: None, greeting: None };
        let server = |user: Option<&str>| App {
            workload: Workload::Webserver(server.clone()),
            user: user.map(|text| text.parse().unwrap()),
            ..app()
        };
        assert_eq!(of(&server(None)).unwrap(), Some(User::NOBODY));
        assert_eq!(of(&server(Some("daemon"))).unwrap(), Some(User { uid: 1, gid: 1 }));
        assert!(of(&server(Some("root"))).unwrap_err().to_string().contains("needs no root"));
    }
}
