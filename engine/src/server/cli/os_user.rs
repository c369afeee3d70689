//! Users of the operating system, by name and number.

/// The name of a user, if the system knows it.
pub fn name_of(uid: u32) -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid))
        .ok()
        .flatten()
        .map(|u| u.name)
}

/// The user that this process runs as: what `initdb` calls the superuser.
pub fn current_name() -> String {
    let uid = rustix::process::geteuid();
    name_of(uid.as_raw()).unwrap_or_else(|| uid.as_raw().to_string())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
