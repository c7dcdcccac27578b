//! `hostctl doctor`.

use hostctl::host::{self, Level};

use super::{Context, Failure, line, output};

pub async fn doctor(context: &Context) -> Result<(), Failure> {
    let findings = host::doctor(&context.root).await;
    if context.json {
        output::json(&findings)?;
    } else {
        for finding in &findings {
            let mark = match finding.level {
                Level::Ok => "ok     ",
                Level::Warning => "warning",
                Level::Problem => "problem",
            };
            line(format!("{mark}  {:17} {}", finding.about, finding.found))?;
            if finding.level != Level::Ok && !finding.remedy.is_empty() {
                line(format!("{:27}→ {}", "", finding.remedy))?;
            }
        }
    }
    match findings.iter().filter(|finding| finding.level == Level::Problem).count() {
        0 => Ok(()),
        count => Err(Failure::other(format!("{} in the way of hostctl", output::count(count, "problem")))),
    }
}
