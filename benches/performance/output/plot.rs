//! Pictures that can be read on light and on dark pages.

use std::path::Path;

use plotters::prelude::*;

use crate::questions::harness::Plot;

const SIZE: (u32, u32) = (640, 360);
/// Readable on white and on black.
const GREY: RGBColor = RGBColor(128, 128, 128);
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 143, 224),
    RGBColor(224, 92, 31),
    RGBColor(46, 160, 67),
    RGBColor(190, 90, 200),
    RGBColor(200, 150, 20),
    RGBColor(110, 120, 140),
];

/// Draws `plot` into the file `path`.
pub fn draw(plot: &Plot, path: &Path) {
    let points = || plot.series.iter().flat_map(|series| &series.points);
    let bounds = |pick: fn(&(f64, f64)) -> f64| {
        let low = points().map(pick).fold(f64::INFINITY, f64::min);
        let high = points().map(pick).fold(f64::NEG_INFINITY, f64::max);
        (low / 1.3, high * 1.3)
    };
    let ((left, right), (bottom, top)) = (bounds(|point| point.0), bounds(|point| point.1));
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let text = ("sans-serif", 13).into_font().color(&GREY);
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .caption(&plot.title, ("sans-serif", 15).into_font().color(&GREY))
        .x_label_area_size(38)
        .y_label_area_size(68)
        .build_cartesian_2d((left..right).log_scale(), (bottom..top).log_scale())
        .unwrap();
    chart
        .configure_mesh()
        .x_desc(&plot.x)
        .y_desc(&plot.y)
        .axis_style(GREY)
        .bold_line_style(GREY.mix(0.35))
        .light_line_style(TRANSPARENT)
        .label_style(text.clone())
        .axis_desc_style(text.clone())
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()
        .unwrap();
    for (series, colour) in plot.series.iter().zip(COLOURS.iter().cycle()) {
        let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(2)).point_size(3);
        chart
            .draw_series(line)
            .unwrap()
            .label(&series.name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        // Where lines of times begin low, and lines of rates high.
        .position(if plot.y == "seconds" || plot.y.starts_with("ns") {
            SeriesLabelPosition::UpperLeft
        } else {
            SeriesLabelPosition::LowerLeft
        })
        .label_font(text)
        .border_style(TRANSPARENT)
        .draw()
        .unwrap();
    area.present().unwrap();
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0}M", value / 1e6),
        value if value >= 1e3 => format!("{:.0}k", value / 1e3),
        value if value >= 1.0 => format!("{value:.0}"),
        value => format!("{value:.3}").trim_end_matches('0').into(),
    }
}
