//! The version of live555, which is in cameras and recorders of many makers, and behaves
//! differently before and after 2017.06.04.

/// True if `a=tool` names a live555 that writes packets of sessions whose connection has died into
/// other connections; `None` if it names no live555, or no version.
pub(crate) fn feeds_the_dead(tool: &str) -> Option<bool> {
    /// The first version that does not.
    const MENDED: (u16, u8, u8) = (2017, 6, 4);
    version(tool).map(|version| version < MENDED)
}

/// `LIVE555 Streaming Media v2017.06.04` gives (2017, 6, 4).
fn version(tool: &str) -> Option<(u16, u8, u8)> {
    if !tool.starts_with("LIVE555") {
        return None;
    }
    let (_, version) = tool.rsplit_once('v')?;
    let mut parts = version.trim().split('.');
    let year = parts.next()?.parse().ok()?;
    let month = parts.next()?.parse().ok()?;
    let day = parts.next()?.parse().ok()?;
    Some((year, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_says_it() {
        let tool = |version: &str| format!("LIVE555 Streaming Media v{version}");
        assert_eq!(feeds_the_dead(&tool("2017.06.03")), Some(true));
        assert_eq!(feeds_the_dead(&tool("2017.06.04")), Some(false));
        for unknown in [
            &tool("2017.06"),
            &tool("x.y.z"),
            "LIVE555",
            "Lavf v2010.01.01",
            "",
        ] {
            assert_eq!(feeds_the_dead(unknown), None, "{unknown}");
        }
    }
}
