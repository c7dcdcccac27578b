//! What lets guests' packets pass another program's rules, in that program's
//! own commands where it has some.

use std::collections::BTreeSet;

use crate::firewall::Foreign;
use crate::prove::Traffic;

use super::place::RulePlace;
use super::program::Program;

/// A link of hostctl's, by the side of a rule that it is on.
type Link<'a> = (&'static str, &'a str);

/// The bridges and ports that these packets come from and go to, as far as a
/// rule at that hook can name them.
fn links<'a>(place: &RulePlace, traffic: &[&'a Traffic]) -> BTreeSet<Link<'a>> {
    traffic
        .iter()
        // What answers look like before they are known as a guest's can't be
        // said by a bridge's name.
        .filter(|these| these.outbound || place.hook != "prerouting")
        .map(|these| (if these.outbound { "iifname" } else { "oifname" }, these.ours.as_str()))
        // Nothing says at the input hook where a packet goes out.
        .filter(|(key, _)| *key == "iifname" || place.hook != "input")
        .collect()
}

/// The commands that help now.
pub(super) fn commands(
    places: &[&RulePlace],
    traffic: &[&Traffic],
    program: Program,
    foreign: &Foreign,
) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for place in places {
        let links = links(place, traffic);
        let more: Vec<String> = match program {
            Program::Firewalld if place.hook != "prerouting" => firewalld(&links, foreign),
            Program::Ufw if takes_user_rules(place) => ufw(place, &links),
            _ => links.iter().map(|link| exception(place, *link, program, foreign)).collect(),
        };
        commands.extend(more);
    }
    let mut seen = BTreeSet::new();
    commands.retain(|command| seen.insert(command.clone()));
    commands
}

/// A rule in front of the others; hostctl's own table goes on judging. In
/// iptables' tables each rule is one that iptables could have made: it refuses
/// to list a table with others.
fn exception(place: &RulePlace, (key, link): Link<'_>, program: Program, foreign: &Foreign) -> String {
    let chain = program.entrance(place, foreign);
    let RulePlace { family, .. } = place;
    match place.legacy_table() {
        Some(table) => {
            let tool = if family == "ip6" { "ip6tables-legacy" } else { "iptables-legacy" };
            let side = if key == "iifname" { "-i" } else { "-o" };
            let table = if table == "filter" { String::new() } else { format!(" -t {table}") };
            format!("{tool}{table} -I {chain} {side} {link} -j ACCEPT")
        }
        None => format!("nft insert rule {family} {} {chain} {key} {link} counter accept", place.table),
    }
}

/// firewalld 2 owns its table: nobody else may change it. A zone of their own
/// says nothing of other links, and what comes from other zones needs a policy
/// (firewalld.policies(5)).
fn firewalld(links: &BTreeSet<Link<'_>>, foreign: &Foreign) -> Vec<String> {
    let has = |name: &str| foreign.chains_of("firewalld").any(|chain| chain.ends_with(name));
    let permanent = |text: String| format!("firewall-cmd --permanent {text}");
    let mut commands = Vec::new();
    if !has("_FWD_hostctl") {
        commands.push("--new-zone=hostctl".into());
        commands.push("--zone=hostctl --set-target=ACCEPT".into());
    }
    let bridges: BTreeSet<&str> = links.iter().map(|(_, link)| *link).collect();
    commands.extend(bridges.iter().map(|link| format!("--zone=hostctl --change-interface={link}")));
    if links.iter().any(|(key, _)| *key == "oifname") && !has("_FWD_policy_to-hostctl") {
        commands.extend([
            "--new-policy=to-hostctl".into(),
            "--policy=to-hostctl --set-target=ACCEPT".into(),
            "--policy=to-hostctl --add-ingress-zone=ANY".into(),
            "--policy=to-hostctl --add-egress-zone=hostctl".into(),
        ]);
    }
    commands.into_iter().map(permanent).chain(["firewall-cmd --reload".into()]).collect()
}

/// Whether ufw's own rules come before this one: those of its before.rules
/// don't wait for them.
fn takes_user_rules(place: &RulePlace) -> bool {
    let chain = place.chain.trim_start_matches("ufw6").trim_start_matches("ufw");
    matches!(place.hook.as_str(), "input" | "forward" | "output")
        && !["-before", "-not-local"].iter().any(|start| chain.starts_with(start))
}

fn ufw(place: &RulePlace, links: &BTreeSet<Link<'_>>) -> Vec<String> {
    let route = if place.hook == "forward" { "route " } else { "" };
    links
        .iter()
        .map(|(key, link)| {
            format!("ufw {route}allow {} on {link}", if *key == "iifname" { "in" } else { "out" })
        })
        .collect()
}

/// What to set there so that it lasts, besides the commands.
pub(super) fn setting(
    program: Program,
    places: &[&RulePlace],
    commands: &[String],
    traffic: &[&Traffic],
) -> String {
    let bridges: BTreeSet<&str> = traffic.iter().map(|these| these.ours.as_str()).collect();
    let first = bridges.first().copied().unwrap_or("br-…");
    let each = if bridges.len() > 1 { ", and so for each bridge" } else { "" };
    let hook = places.first().map_or("", |place| place.hook.as_str());
    let rpfilter =
        places.iter().any(|place| [&place.chain, &place.base].iter().any(|name| name.contains("rpfilter")));
    if commands.is_empty() && program != Program::Tailscale {
        return "look whether it is meant for guests' packets; an exception would be one for the whole interface"
            .into();
    }
    match program {
        Program::Docker => {
            let tools: BTreeSet<&str> = places.iter().map(|place| place.tool()).collect();
            let accept: Vec<String> = tools.iter().map(|tool| format!("`{tool} -P FORWARD ACCEPT`")).collect();
            format!(
                "the commands last until a reboot: run them after docker.service; or set \"ip-forward-no-drop\": true in /etc/docker/daemon.json (Docker 28 and newer), restart Docker, and {} once",
                accept.join(" and ")
            )
        }
        Program::Firewalld if hook == "prerouting" => {
            "to last: IPv6_rpfilter=loose in /etc/firewalld/firewalld.conf; firewall-cmd --reload".into()
        }
        Program::Firewalld => "the commands last; hostctl's own rules go on denying. In /etc/firewalld they are the zone hostctl and, where others may speak to guests, the policy to-hostctl".into(),
        Program::Ufw if commands.iter().any(|command| !command.starts_with("ufw ")) => {
            let suffix = |place: &&RulePlace| if place.family == "ip6" { "6" } else { "" };
            let files: BTreeSet<String> =
                places.iter().map(|place| format!("/etc/ufw/before{}.rules", suffix(place))).collect();
            let files: Vec<String> = files.into_iter().collect();
            format!("to last: put the same rules at the top of {}", files.join(" and "))
        }
        Program::Ufw => "the commands last; hostctl's own rules go on denying".into(),
        Program::NixosFirewall if rpfilter => "to last: networking.firewall.checkReversePath = \"loose\";".into(),
        Program::NixosFirewall if hook == "input" => format!(
            "to last: networking.firewall.interfaces.{first} or networking.firewall.extraInputRules{each}"
        ),
        Program::NixosFirewall => format!(
            "to last: networking.firewall.extraForwardRules = ''iifname \"{first}\" accept; oifname \"{first}\" accept;''{each}"
        ),
        Program::Tailscale => "give the network another prefix than the tailnet's 100.64.0.0/10".into(),
        Program::Libvirt => {
            "the commands last until libvirt defines its networks again: put them into /etc/libvirt/hooks/network".into()
        }
        Program::Iptables => {
            "the commands last until a reboot: put the same rules where that program keeps its own".into()
        }
        Program::Other => {
            "the commands last until that table is loaded again: put the same rules into the file that it is loaded from".into()
        }
    }
}
