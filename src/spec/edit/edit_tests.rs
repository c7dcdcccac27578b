//! What commands make of their drop-in.

use super::apply_edit::{After, Before};
use crate::spec::{EditError, HostSpec, LimitOverrides, Name, Policy, SpecEdit, Subnet, SubnetKind};

/// What a change makes of the drop-in, where `file` is another file.
fn edit(drop_in: &HostSpec, file: &str, change: &SpecEdit) -> Result<After, EditError> {
    let mut whole: HostSpec = toml::from_str(file).unwrap();
    whole.networks.extend(drop_in.networks.clone());
    whole.peerings.extend(drop_in.peerings.clone());
    whole.policies.extend(drop_in.policies.clone());
    change.apply(Before { drop_in, whole: &whole, place: &|_| Some("host.toml:7".into()) })
}

fn create(name: &str) -> SpecEdit {
    let name = Name::new(name).unwrap();
    SpecEdit::CreateNetwork { name, cidr: "10.0.0.0/16".parse().unwrap(), cidr6: None }
}

fn subnet_of(cidr: &str) -> Box<Subnet> {
    let (cidr, kind) = (cidr.parse().unwrap(), SubnetKind::Public);
    Box::new(Subnet {
        cidr,
        cidr6: None,
        kind,
        policy: None,
        namespace: true,
        address: None,
        address6: None,
        limits: LimitOverrides::default(),
    })
}

fn names() -> [String; 2] {
    ["a".into(), "web".into()]
}

#[test]
fn what_is_made_and_deleted_leaves_nothing() {
    let [network, subnet] = names();
    let changes = [
        create("a"),
        create("b"),
        SpecEdit::AddSubnet {
            network: network.clone(),
            name: Name::new("web").unwrap(),
            subnet: subnet_of("10.0.1.0/24"),
        },
        SpecEdit::SetPolicy { network: network.clone(), subnet: Some(subnet), policy: Box::default() },
        SpecEdit::CreatePeering { between: ["a", "b"].map(|name| Name::new(name).unwrap()) },
        SpecEdit::DeleteNetwork { name: network, force: false },
        SpecEdit::DeleteNetwork { name: "b".into(), force: false },
    ];
    let mut drop_in = HostSpec::default();
    for change in &changes {
        drop_in = edit(&drop_in, "", change).unwrap().drop_in;
    }
    assert_eq!(drop_in, HostSpec::default());
}

#[test]
fn what_another_file_says_is_edited_there() {
    let file = "[networks.b]\ncidr = \"10.1.0.0/16\"\n[[peerings]]\nbetween = [\"a\", \"b\"]";
    let drop_in = edit(&HostSpec::default(), "", &create("a")).unwrap().drop_in;
    let elsewhere = |what: &str| Err(EditError::Elsewhere { what: what.into(), place: "host.toml:7".into() });
    let delete = |name: &str| SpecEdit::DeleteNetwork { name: name.into(), force: true };
    assert_eq!(edit(&drop_in, file, &delete("b")), elsewhere("the network b"));
    assert_eq!(edit(&drop_in, file, &delete("a")), elsewhere("the peering of a and b"));
    let change = SpecEdit::DeletePeering { between: ["b".into(), "a".into()] };
    assert_eq!(edit(&drop_in, file, &change), elsewhere("the peering of b and a"));
}

#[test]
fn a_policy_takes_the_place_of_the_last_one() {
    let [network, subnet] = names();
    let text = "[networks.a]\ncidr = \"10.0.0.0/16\"\n[networks.a.subnets.web]\n\
                cidr = \"10.0.1.0/24\"\ntype = \"public\"";
    let mut drop_in: HostSpec = toml::from_str(text).unwrap();
    for words in ["one", "two"] {
        let policy = Box::new(Policy { description: Some(words.into()), ..Policy::default() });
        let change = SpecEdit::SetPolicy { network: network.clone(), subnet: Some(subnet.clone()), policy };
        drop_in = edit(&drop_in, "", &change).unwrap().drop_in;
    }
    assert_eq!(drop_in.policies["a-web"].description.as_deref(), Some("two"));
    let change = SpecEdit::RemovePolicy { network, subnet: Some(subnet) };
    drop_in = edit(&drop_in, "", &change).unwrap().drop_in;
    assert_eq!(drop_in, toml::from_str(text).unwrap());
    assert!(matches!(edit(&drop_in, "", &change), Err(EditError::NoPolicy { .. })));
}
