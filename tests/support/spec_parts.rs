//! What most specs of tests are made of, as TOML that `concat!` takes. Further
//! keys of a network or a VM follow it as text.

/// The network 10.N.0.0/24, fd00:0:0:N::/64.
macro_rules! network {
    ($name:literal $n:literal) => {
        concat!("[networks.", $name, "]\ncidr = \"10.", $n, ".0.0/24\"\ncidr6 = \"fd00:0:0:", $n, "::/64\"\n")
    };
}

/// The network 10.N.0.0/24, without IPv6.
macro_rules! network4 {
    ($name:literal $n:literal) => {
        concat!("[networks.", $name, "]\ncidr = \"10.", $n, ".0.0/24\"\n")
    };
}

/// A network of a whole /16, for subnets; with IPv6 where its prefix is given.
macro_rules! wide_network {
    ($name:literal $n:literal) => {
        concat!("[networks.", $name, "]\ncidr = \"10.", $n, ".0.0/16\"\n")
    };
    ($name:literal $n:literal $cidr6:literal) => {
        concat!($crate::support::spec_parts::wide_network!($name $n), "cidr6 = \"", $cidr6, "\"\n")
    };
}

/// A subnet: its type, network, name and prefix, or prefixes.
macro_rules! subnet {
    ($kind:literal $network:literal / $name:literal $cidr:literal) => {
        concat!(
            "[networks.",
            $network,
            ".subnets.",
            $name,
            "]\ncidr = \"",
            $cidr,
            "\"\ntype = \"",
            $kind,
            "\"\n",
        )
    };
    ($kind:literal $network:literal / $name:literal $cidr:literal $cidr6:literal) => {
        concat!($crate::support::spec_parts::subnet!($kind $network / $name $cidr), "cidr6 = \"", $cidr6, "\"\n")
    };
}

/// A subnet that is a namespace: as [`subnet`].
macro_rules! namespace {
    ($kind:literal $network:literal / $name:literal $($cidr:literal)+) => {
        concat!($crate::support::spec_parts::subnet!($kind $network / $name $($cidr)+), "namespace = true\n")
    };
}

/// VMs that nobody starts: tests put guests without QEMU on their ports.
macro_rules! idle_vms {
    ($($name:literal in $network:literal),+) => {
        concat!($(
            "[vms.", $name, "]\nnetwork = \"", $network, "\"\nimage = \"probe\"\nautostart = false\n",
        )+)
    };
}

/// Two networks whose guests may open flows to each other.
macro_rules! peering {
    ($one:literal and $other:literal) => {
        concat!("[[peerings]]\nbetween = [\"", $one, "\", \"", $other, "\"]\n")
    };
}

/// The tailnet's interface in every [`crate::support::lab::Lab`].
macro_rules! tailnet {
    () => {
        "[host.tailscale]\ninterface = \"tailscale0\"\n"
    };
}

pub(crate) use {idle_vms, namespace, network, network4, peering, subnet, tailnet, wide_network};
