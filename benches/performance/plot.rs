//! Plots as SVG: horizontal bars, and lines over a logarithmic or linear axis.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const COLOURS: [&str; 6] = [
    "#4C78A8", "#F58518", "#54A24B", "#E45756", "#72B7B2", "#B279A2",
];

/// Named points.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Groups of bars of ratios; the line at 1 is what they are compared with.
pub(crate) fn bars(title: &str, groups: &[(String, Vec<(String, f64)>)]) -> String {
    const LEFT: f64 = 190.0;
    const BAR: f64 = 15.0;
    let most = groups
        .iter()
        .flat_map(|(_, bars)| bars.iter().map(|bar| bar.1))
        .fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - 60.0) / most;
    let names: Vec<&String> = groups
        .iter()
        .max_by_key(|(_, bars)| bars.len())
        .map(|(_, bars)| bars.iter().map(|bar| &bar.0).collect())
        .unwrap_or_default();
    let colour =
        |name: &String| COLOURS[names.iter().position(|n| *n == name).unwrap_or(0) % COLOURS.len()];
    let (mut body, mut y) = (String::new(), 58.0);
    for (group, bars) in groups {
        let middle = y + BAR * bars.len() as f64 / 2.0 + 4.0;
        text(&mut body, LEFT - 8.0, middle, "end", group);
        for (name, value) in bars {
            let _ = writeln!(
                body,
                r#"<rect x="{LEFT}" y="{y:.1}" width="{:.1}" height="{:.1}" fill="{}"/>"#,
                value * scale,
                BAR - 2.0,
                colour(name)
            );
            text(
                &mut body,
                LEFT + value * scale + 4.0,
                y + 11.0,
                "start",
                &format!("{value:.2}"),
            );
            y += BAR;
        }
        y += 10.0;
    }
    let one = LEFT + scale;
    let _ = writeln!(
        body,
        r##"<path d="M{one:.1} 50V{y:.1}" stroke="#888" stroke-dasharray="3"/>"##
    );
    legend(&mut body, names.iter().map(|name| name.as_str()), 34.0);
    page(title, y + 8.0, &body)
}

/// Lines, the x axis logarithmic to the base 2.
pub(crate) fn lines(title: &str, x_name: &str, y_name: &str, lines: &[Line]) -> String {
    const LEFT: f64 = 60.0;
    const TOP: f64 = 60.0;
    const HEIGHT: f64 = 260.0;
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let x_most = points().map(|point| point.0).fold(2.0, f64::max).log2();
    let y_most = nice(points().map(|point| point.1).fold(0.0, f64::max));
    let x = |value: f64| LEFT + value.max(1.0).log2() / x_most * (WIDTH - LEFT - 20.0);
    let y = |value: f64| TOP + HEIGHT - value / y_most * HEIGHT;
    let mut body = String::new();
    for step in 0..=4 {
        let value = y_most * f64::from(step) / 4.0;
        let _ = writeln!(
            body,
            r##"<path d="M{LEFT} {0:.1}H{1}" stroke="#ddd"/>"##,
            y(value),
            WIDTH - 20.0
        );
        text(
            &mut body,
            LEFT - 6.0,
            y(value) + 4.0,
            "end",
            &format!("{value}"),
        );
    }
    for power in 0..=x_most as u32 {
        let value = f64::from(1 << power);
        text(
            &mut body,
            x(value),
            TOP + HEIGHT + 18.0,
            "middle",
            &format!("{value}"),
        );
    }
    text(
        &mut body,
        WIDTH / 2.0,
        TOP + HEIGHT + 36.0,
        "middle",
        x_name,
    );
    text(&mut body, 10.0, TOP - 10.0, "start", y_name);
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
            .collect();
        let _ = writeln!(
            body,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            path.join(" ")
        );
        for point in &line.points {
            let _ = writeln!(
                body,
                r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#,
                x(point.0),
                y(point.1)
            );
        }
    }
    legend(&mut body, lines.iter().map(|line| line.name.as_str()), 34.0);
    page(title, TOP + HEIGHT + 50.0, &body)
}

/// The next number with one digit that four steps make good marks of.
fn nice(most: f64) -> f64 {
    let unit = 10_f64.powf(most.max(1e-6).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|factor| factor * unit)
        .find(|limit| *limit >= most)
        .unwrap_or(most)
}

fn legend<'a>(body: &mut String, names: impl Iterator<Item = &'a str>, y: f64) {
    let mut x = 60.0;
    for (name, colour) in names.zip(COLOURS.iter().cycle()) {
        let _ = writeln!(
            body,
            r#"<rect x="{x:.0}" y="{:.0}" width="10" height="10" fill="{colour}"/>"#,
            y - 9.0
        );
        text(body, x + 14.0, y, "start", name);
        x += 34.0 + 6.4 * name.len() as f64;
    }
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        body,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
    );
}

fn page(title: &str, height: f64, body: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{:.0}" y="18" text-anchor="middle" font-size="14">{title}</text>
{body}</svg>
"##,
        WIDTH / 2.0
    )
}
