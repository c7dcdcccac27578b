//! `hostctl doctor`.

use hostctl::host::{self, Level};
use hostctl::os_error;

use super::terminal::{Tone, paint};
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
            let found = os_error::without_number(&finding.found);
            let mark = paint(mark, Tone::of(mark.trim()));
            line(format!("{mark}  {:17} {found}", finding.about))?;
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
