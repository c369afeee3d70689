//! The network: one bridge on the machine, a network namespace on it for each node, and one through which the machine
//! reaches Service addresses.
//!
//! There is no default route in any namespace, so nothing that a pod sends can leave the machine. Pod addresses are
//! routed as they are, between nodes and to the machine. The namespace for Services is no node, so that cutting off a
//! node does not cut off the API server from webhooks.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::command::{in_network, ip, mounting, run, system};
use crate::layout::{
    BRIDGE, HOST_ADDRESS, Layout, NODE_RANGE, Node, POD_RANGE, SERVICE_RANGE, SERVICES_ADDRESS,
    SERVICES_LINK, SERVICES_NAME,
};
use crate::state::{StateFile, Thing};

/// The folder of the cluster whose bridge is on the machine, if there is one.
pub fn owner() -> Option<String> {
    let alias = fs::read_to_string(format!("/sys/class/net/{BRIDGE}/ifalias"));
    Some(alias.ok()?.trim().to_owned())
}

/// # Errors
/// If the machine already sends one of our ranges somewhere.
pub fn check_ranges() -> Result<()> {
    let routes = run(system("ip").args(["-4", "route", "show"]))?;
    for range in [NODE_RANGE, POD_RANGE, SERVICE_RANGE] {
        for line in routes.lines() {
            let to = line.split(' ').next().unwrap_or_default();
            ensure!(
                !overlap(range, to),
                "this machine has a route to {to} (\"{}\"), which overlaps with {range} of the cluster",
                line.trim()
            );
        }
    }
    Ok(())
}

/// Whether two ranges have an address in common; a plain address is a range of one, and what is neither overlaps with
/// nothing.
fn overlap(one: &str, other: &str) -> bool {
    let parse = |range: &str| -> Option<(u32, u32)> {
        let (address, bits) = range.split_once('/').unwrap_or((range, "32"));
        let address: Ipv4Addr = address.parse().ok()?;
        Some((u32::from(address), bits.parse().ok()?))
    };
    match (parse(one), parse(other)) {
        (Some((a, a_bits)), Some((b, b_bits))) => {
            let shift = 32 - a_bits.min(b_bits).min(32);
            a.checked_shr(shift) == b.checked_shr(shift)
        }
        _ => false,
    }
}

/// The folder in which files keep namespaces alive.
///
/// # Errors
/// If the mount is refused.
pub fn make_namespaces_folder(layout: &Layout, state: &StateFile) -> Result<()> {
    let folder = layout.namespaces();
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    state.record(Thing::Mount {
        path: folder.clone(),
    })?;
    run(mounting().arg("--bind").arg(&folder).arg(&folder))?;
    run(mounting().arg("--make-private").arg(&folder)).map(drop)
}

/// The bridge, and the machine's routes.
///
/// # Errors
/// If the kernel refuses.
pub fn make_bridge(layout: &Layout, state: &StateFile, nodes: &[Node]) -> Result<()> {
    state.record(Thing::Link {
        name: BRIDGE.to_owned(),
    })?;
    let owner = layout.dir().display().to_string();
    // The kernel keeps 255 bytes of an alias.
    ensure!(owner.len() < 255, "the path {owner} is too long");
    ip(None, &[format!("link add {BRIDGE} type bridge")])?;
    run(system("ip").args(["link", "set", BRIDGE, "alias", &owner]))?;
    ip(
        None,
        &[
            format!("address add {HOST_ADDRESS}/24 dev {BRIDGE}"),
            format!("link set {BRIDGE} up"),
        ],
    )?;
    let mut routes = vec![(SERVICE_RANGE.to_owned(), SERVICES_ADDRESS)];
    routes.extend(nodes.iter().map(|node| (node.pod_range(), node.address())));
    for (to, via) in routes {
        state.record(Thing::Route {
            to: to.clone(),
            via: via.to_string(),
        })?;
        ip(None, &[format!("route add {to} via {via} dev {BRIDGE}")])?;
    }
    Ok(())
}

/// A node's network: Services lead to the machine's end until kube-proxy turns them into pods.
///
/// # Errors
/// If the kernel refuses.
pub fn make_node(layout: &Layout, state: &StateFile, node: Node, nodes: &[Node]) -> Result<()> {
    let mut routes = vec![format!("route add {SERVICE_RANGE} via {HOST_ADDRESS}")];
    let others = nodes.iter().filter(|other| **other != node);
    routes.extend(others.map(route_to));
    let file = layout.network_namespace(&node.name());
    make(state, &file, &node.link(), node.address(), &routes)
}

/// The namespace through which the machine reaches Services.
///
/// # Errors
/// If the kernel refuses.
pub fn make_services(layout: &Layout, state: &StateFile, nodes: &[Node]) -> Result<()> {
    let mut routes = vec![format!("route add {SERVICE_RANGE} via {HOST_ADDRESS}")];
    routes.extend(nodes.iter().map(route_to));
    let file = layout.network_namespace(SERVICES_NAME);
    make(state, &file, SERVICES_LINK, SERVICES_ADDRESS, &routes)
}

fn route_to(node: &Node) -> String {
    format!("route add {} via {}", node.pod_range(), node.address())
}

fn make(
    state: &StateFile,
    file: &Path,
    link: &str,
    address: Ipv4Addr,
    routes: &[String],
) -> Result<()> {
    state.record(Thing::Mount {
        path: file.to_owned(),
    })?;
    File::create(file).with_context(|| format!("make {}", file.display()))?;
    run(system("unshare")
        .arg(format!("--net={}", file.display()))
        .arg("true"))?;
    // Settings of a namespace, before there is a link that would take the defaults. What is forwarded leaves by the
    // link by which it came: the sender must not be told to go there directly.
    let settings = "echo 1 >ip_forward; for of in all default; do echo 0 >conf/$of/send_redirects; \
                    echo 0 >conf/$of/rp_filter; done";
    let mut shell = in_network(file, "sh");
    run(shell.args(["-ec", &format!("cd /proc/sys/net/ipv4; {settings}")]))?;
    state.record(Thing::Link {
        name: link.to_owned(),
    })?;
    let netns = file.display();
    run(system("ip")
        .args(["link", "add", link, "type", "veth", "peer", "name", "eth0"])
        .args(["netns", &netns.to_string()]))?;
    let mut inside = vec![
        "link set lo up".to_owned(),
        format!("address add {address}/24 dev eth0"),
        "link set eth0 up".to_owned(),
    ];
    inside.extend_from_slice(routes);
    ip(Some(file), &inside)?;
    ip(None, &[format!("link set {link} master {BRIDGE} up")])
}

/// Whether a node's link carries anything.
pub fn is_up(node: Node) -> bool {
    let state = fs::read_to_string(format!("/sys/class/net/{}/operstate", node.link()));
    state.is_ok_and(|state| state.trim() == "up")
}

/// Cuts a node off, silently, or mends it. Its own programs and pods reach each other all the time.
///
/// # Errors
/// If there is no such link.
pub fn set_up(node: Node, up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    ip(None, &[format!("link set {} {state}", node.link())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_are_seen() {
        for (other, overlaps) in [
            ("10.200.0.0/24", true),
            ("10.200.0.77", true),
            ("10.200.0.0/25", true),
            ("10.0.0.0/8", true),
            ("0.0.0.0/0", true),
            ("10.200.1.0/24", false),
            ("192.168.0.0/16", false),
            // How `ip route` names the route to everything else: that is no use of our range.
            ("default", false),
            ("unreachable", false),
        ] {
            assert_eq!(overlap(NODE_RANGE, other), overlaps, "{other}");
            assert_eq!(overlap(other, NODE_RANGE), overlaps, "{other}");
        }
    }
}
