//! Carries steps out in the order of a plan, with few requests: what several
//! steps in a row say of one link is one message, and messages are sent together.
//!
//! A message of a link says no more than its steps do, and what sets a link up
//! says nothing but what the kernel does before. Where one step fails, those
//! around it may be done; what sets the links up that they are about isn't, since
//! a plan has that after them.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use netlink_packet_route::link::{
    BridgeStpState, InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::{LinkBridge, LinkUnspec};

use super::apart::{ApartChange, Part};
use super::apart_netlink::{self, is_done};
use super::desired::{LLDP_MASK, Sysctl};
use super::execute::{address_message, fdb_message, neighbour_message, proxy_message};
use super::netlink::{LinkError, Netlink};
use super::requests::{Failed, Requests};
use super::settings::{ProxyDelay, device_settings, inet_setting};
use super::step::{Setting, Step};
use super::sysctl;
use crate::ownership::LINK_GROUP;
use crate::tap;
use crate::topology::{IfName, MacAddr};

/// A step's number in its plan, and why it wasn't done.
pub type StepError = (usize, LinkError);

/// What a request is about.
#[derive(Debug)]
struct About {
    /// The number of the first step that it is of.
    step: usize,
    /// What was asked for, as a person would do it.
    action: String,
    /// Of what keeps networks apart: whether it comes. What is there already, or
    /// gone, is well.
    apart: Option<bool>,
}

/// Steps that aren't done yet.
pub struct Queue<'n> {
    netlink: &'n Netlink,
    requests: Requests<'n, About>,
    indices: BTreeMap<String, u32>,
    /// The links that were made by this queue: nothing is known of them elsewhere
    /// that a setting would have to undo.
    fresh: BTreeSet<String>,
    /// Those of them that may wait to be made.
    unmade: BTreeSet<String>,
    growing: Option<Growing>,
}

/// A message that further steps may say more in.
struct Growing {
    name: String,
    about: About,
    message: LinkMessage,
    /// IPv4 settings by the kernel's number for them (`linux/ip.h`).
    settings: Vec<(u16, u32)>,
    /// Whether it is about a port of a bridge, and not the link itself: another
    /// kind of message.
    port: bool,
    up: bool,
    /// A TAP that stays once this is done.
    passing: Option<tap::Passing>,
}

impl Netlink {
    /// A queue of steps.
    pub fn queue(&self) -> Queue<'_> {
        let done =
            |about: &About, error: &rtnetlink::Error| about.apart.is_some_and(|add| is_done(error, add));
        Queue {
            netlink: self,
            requests: Requests::new(&self.line, done),
            indices: BTreeMap::new(),
            fresh: BTreeSet::new(),
            unmade: BTreeSet::new(),
            growing: None,
        }
    }
}

impl Queue<'_> {
    /// Does a step, or keeps it to be done with those that follow: by
    /// [`Queue::finish`] at the latest. What isn't finished may not be done.
    ///
    /// # Errors
    /// Where the kernel refuses it, or one before it.
    pub async fn add(&mut self, number: usize, step: &Step) -> Result<(), StepError> {
        let about = || About { step: number, action: step.to_string(), apart: None };
        let at = |error| (number, error);
        match step {
            Step::CreateBridge { name, mac } => {
                self.close()?;
                let message = LinkBridge::new(name)
                    .address(mac.octets().to_vec())
                    .link_group(LINK_GROUP)
                    .stp_state(BridgeStpState::Disabled)
                    .mcast_snooping(false)
                    .group_fwd_mask(LLDP_MASK)
                    .build();
                self.fresh.insert(name.clone());
                self.unmade.insert(name.clone());
                self.push(about(), RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
            }
            Step::CreateTap { name, mac } => {
                self.close()?;
                let passing = begin(name).map_err(at)?;
                self.fresh.insert(name.clone());
                let growing = self.growing(about(), name, false)?;
                growing.message.attributes.push(LinkAttribute::Group(LINK_GROUP));
                growing.message.attributes.extend(mac.map(address));
                growing.passing = Some(passing);
                Ok(())
            }
            Step::Set { name, setting } => self.set(number, step, name, setting).await,
            Step::AddAddress { name, address } => {
                let index = self.index(name).map_err(|error| error.at(number))?;
                let mut message = address_message(index, *address);
                if matches!(address, IpNet::V6(_)) {
                    // Nobody else can have the gateway's address: its ports see to that.
                    message.header.flags |= AddressHeaderFlags::Nodad;
                    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
                }
                self.close()?;
                self.push(about(), RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
            }
            Step::AddFdb { name, mac } => {
                self.close()?;
                let mut message =
                    fdb_message(self.index(name).map_err(|error| error.at(number))?, mac.octets());
                message.header.state = NeighbourState::Noarp;
                message.header.flags = NeighbourFlags::Controller;
                self.push(about(), RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
            }
            Step::AddProxy { name, address } => {
                self.close()?;
                let index = self.index(name).map_err(|error| error.at(number))?;
                let mut message = proxy_message(index, *address);
                // Another goes with the bridge's carrier (neigh_carrier_down in
                // `net/core/neighbour.c`).
                message.header.state = NeighbourState::Permanent;
                self.push(about(), RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
            }
            Step::AddNeighbour { name, address, mac } => {
                self.close()?;
                let index = self.index(name).map_err(|error| error.at(number))?;
                let message = neighbour_message(index, *address, Some(*mac));
                self.push(about(), RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
            }
            Step::Sysctl(sysctl) => self.sysctl(number, step, sysctl),
            step => self.alone(number, step).await,
        }
    }

    /// Does what was kept.
    ///
    /// # Errors
    /// Where the kernel refuses a step.
    pub fn finish(&mut self) -> Result<(), StepError> {
        self.close()?;
        self.send()
    }

    fn send(&mut self) -> Result<(), StepError> {
        self.requests.send().map_err(failed)?;
        self.unmade.clear();
        Ok(())
    }

    /// Makes and removes what keeps networks apart. What is there already, or
    /// gone, is well.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn keep_apart(&mut self, number: usize, change: &ApartChange) -> Result<(), StepError> {
        self.close()?;
        for (add, part) in change.steps() {
            let action = "keeping networks apart by routes".into();
            let about = About { step: number, action, apart: Some(add) };
            let flags = if add { NLM_F_CREATE | NLM_F_EXCL } else { 0 };
            let message = match (part, add) {
                (Part::Prohibit(to), true) => RouteNetlinkMessage::NewRoute(apart_netlink::prohibit(*to)),
                (Part::Prohibit(to), false) => RouteNetlinkMessage::DelRoute(apart_netlink::prohibit(*to)),
                (part, true) => RouteNetlinkMessage::NewRule(apart_netlink::message(part)),
                (part, false) => RouteNetlinkMessage::DelRule(apart_netlink::message(part)),
            };
            self.push(about, message, flags)?;
        }
        self.finish()
    }

    /// One that no message of this queue says.
    async fn alone(&mut self, number: usize, step: &Step) -> Result<(), StepError> {
        self.finish()?;
        if let Step::Delete { name } | Step::CreateVeth { name, .. } = step {
            self.indices.remove(name);
            self.fresh.remove(name);
        }
        let done = self.netlink.execute_alone(step).await;
        if let (Step::CreateVeth { name, .. }, Ok(())) = (step, &done) {
            self.fresh.insert(name.clone());
        }
        done.map_err(|error| (number, error))
    }

    async fn set(
        &mut self,
        number: usize,
        step: &Step,
        name: &str,
        setting: &Setting,
    ) -> Result<(), StepError> {
        let about = About { step: number, action: step.to_string(), apart: None };
        let port = matches!(setting, Setting::QuietPort);
        let up = matches!(setting, Setting::Up);
        let attribute = match setting {
            Setting::Mac(mac) => Some(address(*mac)),
            Setting::Group => Some(LinkAttribute::Group(LINK_GROUP)),
            Setting::Alias(alias) => Some(LinkAttribute::IfAlias(alias.clone())),
            Setting::Bridge(bridge) => {
                let index = self.index(bridge).map_err(|error| error.at(number))?;
                Some(LinkAttribute::Controller(index))
            }
            Setting::QuietPort => Some(LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![
                    InfoBridgePort::Learning(false),
                    InfoBridgePort::UnicastFlood(false),
                    InfoBridgePort::Isolated(true),
                ])),
            ])),
            Setting::Up => None,
            _ => return self.alone(number, step).await,
        };
        // The kernel makes a port quiet before it sets a link up, and a port of a
        // bridge after it (do_setlink in `net/core/rtnetlink.c`).
        let port =
            port || (up && self.growing.as_ref().is_some_and(|growing| growing.port && growing.name == name));
        let growing = self.growing(about, name, port)?;
        growing.message.attributes.extend(attribute);
        if up {
            growing.message.header.flags |= LinkFlags::Up;
            growing.message.header.change_mask |= LinkFlags::Up;
            growing.up = true;
            if !port {
                // Nothing else is said with it.
                return self.close();
            }
        }
        Ok(())
    }

    /// A setting of a link that was just made goes with others of it; one of any
    /// other has its file.
    fn sysctl(&mut self, number: usize, step: &Step, sysctl: &Sysctl) -> Result<(), StepError> {
        let about = About { step: number, action: step.to_string(), apart: None };
        let link = sysctl.key.split('/').nth(3).filter(|link| self.fresh.contains(*link)).map(str::to_string);
        let Some(link) = link else {
            self.finish()?;
            return write(sysctl).map_err(|error| (number, error));
        };
        if let (Some(setting), Ok(value)) = (inet_setting(&sysctl.key), sysctl.value.parse::<i32>()) {
            self.growing(about, &link, false)?.settings.push((setting, value.cast_unsigned()));
            return Ok(());
        }
        if let Some(delay) = ProxyDelay::of(&sysctl.key, &sysctl.value) {
            let index = self.index(&link).map_err(|error| error.at(number))?;
            self.close()?;
            return self.push(
                about,
                RouteNetlinkMessage::SetNeighbourTable(delay.message(index)),
                NLM_F_REPLACE,
            );
        }
        if self.unmade.contains(&link) {
            self.send()?;
        }
        write(sysctl).map_err(|error| (number, error))
    }

    /// The message that a step about that link says more in: it begins one, where
    /// the last is about something else, or sets its link up.
    fn growing(&mut self, about: About, name: &str, port: bool) -> Result<&mut Growing, StepError> {
        let fits = |growing: &Growing| growing.name == name && growing.port == port && !growing.up;
        match self.growing.take() {
            Some(mut growing) if fits(&growing) => {
                growing.about.action = format!("{}; {}", growing.about.action, about.action);
                Ok(self.growing.insert(growing))
            }
            other => {
                self.growing = other;
                self.close()?;
                let message = LinkUnspec::new_with_name(name).build();
                Ok(self.growing.insert(Growing {
                    name: name.into(),
                    about,
                    message,
                    settings: Vec::new(),
                    port,
                    up: false,
                    passing: None,
                }))
            }
        }
    }

    /// Ends the message that grows.
    fn close(&mut self) -> Result<(), StepError> {
        let Some(Growing { about, mut message, settings, port, passing, .. }) = self.growing.take() else {
            return Ok(());
        };
        if !settings.is_empty() {
            message.attributes.push(LinkAttribute::Other(device_settings(&settings)));
        }
        let step = about.step;
        let message =
            if port { RouteNetlinkMessage::NewLink(message) } else { RouteNetlinkMessage::SetLink(message) };
        self.push(about, message, 0)?;
        if let Some(passing) = passing {
            // It stays only once it bears hostctl's mark, so a crash leaves none
            // that looks like somebody else's.
            self.send()?;
            passing.persist().map_err(|error| (step, error.into()))?;
        }
        Ok(())
    }

    fn push(&mut self, about: About, message: RouteNetlinkMessage, flags: u16) -> Result<(), StepError> {
        self.requests.push(about, message, flags).map_err(failed)
    }

    /// The kernel's number for a link, which is made first where it still waits.
    fn index(&mut self, name: &str) -> Result<u32, Unknown> {
        if let Some(index) = self.indices.get(name) {
            return Ok(*index);
        }
        if self.unmade.contains(name) {
            self.send().map_err(Unknown::Earlier)?;
        }
        let index = self.netlink.line.index(name).map_err(|_| Unknown::Gone(name.into()))?;
        self.indices.insert(name.into(), index);
        Ok(index)
    }
}

/// Why a link's number isn't known.
enum Unknown {
    Gone(String),
    Earlier(StepError),
}

impl Unknown {
    fn at(self, number: usize) -> StepError {
        match self {
            Self::Gone(name) => (number, LinkError::Gone(name)),
            Self::Earlier(error) => error,
        }
    }
}

fn begin(name: &str) -> Result<tap::Passing, LinkError> {
    Ok(tap::begin(&IfName::new(name)?)?)
}

fn address(mac: MacAddr) -> LinkAttribute {
    LinkAttribute::Address(mac.octets().to_vec())
}

fn write(sysctl: &Sysctl) -> Result<(), LinkError> {
    sysctl::write(&sysctl.key, &sysctl.value)
        .map_err(|source| LinkError::Sysctl { key: sysctl.key.clone(), source })
}

fn failed(failed: Failed<About>) -> StepError {
    match failed {
        Failed::Refused(About { step, action, .. }, source) => (step, LinkError::Request { action, source }),
        Failed::Socket(source) => (0, LinkError::Socket(source)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::link::Observed;

    const BRIDGE: &str = "br-x";
    const TAP: &str = "vm-x";

    fn alone(test: impl AsyncFnOnce(&Netlink) + Send + 'static) {
        let thread = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { test(&Netlink::open().unwrap()).await });
        });
        thread.join().unwrap();
    }

    fn set(name: &str, setting: Setting) -> Step {
        Step::Set { name: name.into(), setting }
    }

    fn mac(text: &str) -> MacAddr {
        text.parse().unwrap()
    }

    fn made() -> [Step; 2] {
        let mac = mac("02:00:00:00:00:07");
        [
            Step::CreateBridge { name: BRIDGE.into(), mac },
            Step::CreateTap { name: TAP.into(), mac: Some(mac) },
        ]
    }

    async fn done(netlink: &Netlink, steps: &[Step]) -> Result<Observed, StepError> {
        let mut queue = netlink.queue();
        for (number, step) in steps.iter().enumerate() {
            queue.add(number, step).await?;
        }
        queue.finish()?;
        Ok(netlink.observe().await.unwrap())
    }

    #[test]
    fn a_port_that_isnt_made_quiet_isnt_set_up() {
        alone(async |netlink| {
            let steps = [&made()[..], &[set(TAP, Setting::QuietPort), set(TAP, Setting::Up)]].concat();
            let (number, error) = done(netlink, &steps).await.unwrap_err();
            assert_eq!(number, 2, "{error}");
            let text = error.to_string();
            assert!(text.contains("isolated on; ip link set vm-x up: "), "{text}");
            let found = netlink.observe().await.unwrap();
            assert!(!found.links[TAP].up);
            // Nothing after it is done either.
            let steps = [set("none", Setting::Alias("x".into())), set(BRIDGE, Setting::Up)];
            assert_eq!(done(netlink, &steps).await.unwrap_err().0, 0);
        });
    }

    #[test]
    fn a_tap_that_isnt_marked_doesnt_stay() {
        alone(async |netlink| {
            let mut queue = netlink.queue();
            for (number, step) in made().iter().enumerate() {
                queue.add(number, step).await.unwrap();
            }
            drop(queue);
            assert!(!netlink.observe().await.unwrap().links.contains_key(TAP));
        });
    }

    /// By messages, and by files, the kernel is the same.
    #[test]
    fn settings_are_set_and_read_as_the_files_say() {
        alone(async |netlink| {
            let conf = [
                ("forwarding", "1"),
                ("arp_ignore", "8"),
                ("arp_announce", "2"),
                ("send_redirects", "0"),
                ("accept_redirects", "0"),
                ("accept_source_route", "1"),
                ("route_localnet", "1"),
                ("src_valid_mark", "1"),
                ("proxy_arp_pvlan", "1"),
            ];
            let mut settings: Vec<Sysctl> = conf
                .into_iter()
                .map(|(key, value)| Sysctl::new(format!("net/ipv4/conf/{BRIDGE}/{key}"), value))
                .collect();
            assert!(settings.iter().all(|sysctl| inet_setting(&sysctl.key).is_some()));
            settings.push(Sysctl::new(format!("net/ipv4/neigh/{BRIDGE}/proxy_delay"), "7"));
            settings.push(Sysctl::new(format!("net/ipv6/neigh/{BRIDGE}/proxy_delay"), "0"));
            settings.push(Sysctl::new(format!("net/ipv6/conf/{BRIDGE}/accept_ra"), "0"));
            let steps: Vec<Step> =
                made().into_iter().chain(settings.iter().cloned().map(Step::Sysctl)).collect();
            let found = done(netlink, &steps).await.unwrap();
            for sysctl in &settings {
                let file = fs::read_to_string(format!("/proc/sys/{}", sysctl.key)).unwrap();
                assert_eq!(file.trim(), sysctl.value, "{}", sysctl.key);
                assert_eq!(found.sysctls.get(&sysctl.key), Some(&sysctl.value), "{}", sysctl.key);
            }
            // What new links begin with; its file is the first namespace's alone.
            assert!(found.sysctls.contains_key("net/ipv4/neigh/default/proxy_delay"));
        });
    }

    #[test]
    fn steps_of_one_link_are_as_good_as_one_by_one() {
        let bridge = "10.1.0.1/24".parse().unwrap();
        let gateway6 = "fd00::1/64".parse().unwrap();
        let (guest, other) = (mac("02:00:00:00:00:08"), "fd00::2".parse().unwrap());
        let rest = [
            set(BRIDGE, Setting::Alias("hostctl:network:x".into())),
            Step::AddAddress { name: BRIDGE.into(), address: bridge },
            set(TAP, Setting::Alias("hostctl:vm:x".into())),
            Step::Sysctl(Sysctl::new(format!("net/ipv6/conf/{TAP}/disable_ipv6"), "1")),
            Step::Sysctl(Sysctl::new(format!("net/ipv4/conf/{TAP}/arp_ignore"), "8")),
            set(TAP, Setting::Bridge(BRIDGE.into())),
            Step::AddFdb { name: TAP.into(), mac: guest },
            set(TAP, Setting::QuietPort),
            set(TAP, Setting::Up),
            Step::AddAddress { name: BRIDGE.into(), address: gateway6 },
            set(BRIDGE, Setting::Up),
            Step::AddProxy { name: BRIDGE.into(), address: other },
            Step::AddNeighbour { name: BRIDGE.into(), address: other.into(), mac: guest },
        ];
        let steps: Vec<Step> = made().into_iter().chain(rest).collect();
        let (together, apart) = std::sync::mpsc::channel();
        for at_once in [true, false] {
            let (steps, together) = (steps.clone(), together.clone());
            alone(async move |netlink| {
                if at_once {
                    done(netlink, &steps).await.unwrap();
                } else {
                    for step in &steps {
                        netlink.execute(step).await.unwrap();
                    }
                }
                let mut found = netlink.observe().await.unwrap();
                found.network = 0;
                // Which was made first doesn't matter.
                let bridge = found.links[BRIDGE].index;
                for link in found.links.values_mut() {
                    assert!(link.master.is_none_or(|master| master == bridge));
                    (link.index, link.master) = (0, link.master.map(|_| 1));
                    // Link-local routes come with the carrier.
                    link.routes.clear();
                }
                together.send(found).unwrap();
            });
        }
        let (one, other) = (apart.recv().unwrap(), apart.recv().unwrap());
        assert_eq!(one, other);
        let tap = &one.links[TAP];
        assert!(tap.up && tap.isolated && !tap.learning && !tap.flood && tap.master.is_some());
        assert!(tap.tap.as_ref().unwrap().is_as_made(false));
        assert_eq!(one.links[BRIDGE].addresses.len(), 2);
    }
}
