//! Plots in SVG.

use std::{fs, ops::Range, path::Path};

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, IntoDrawingArea as _, LineSeries, Palette as _, Palette99,
    PathElement, SVGBackend, WHITE,
};

/// A line and its name.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

impl Line {
    pub(crate) fn new(name: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { name, points }
    }
}

/// How values are laid out from left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    Linear,
    /// All are above 0.
    Logarithmic,
}

/// Writes a plot of `lines`.
pub(crate) fn write(file: &Path, title: &str, axis: Axis, lines: &[Line]) -> Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    draw(file, title, axis, lines).map_err(|error| anyhow!("draw {}: {error}", file.display()))
}

fn span(values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    values.clone().fold(f64::INFINITY, f64::min)..values.fold(f64::NEG_INFINITY, f64::max)
}

fn draw(
    file: &Path,
    title: &str,
    axis: Axis,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = lines.iter().flat_map(|line| line.points.iter());
    let x = span(points.clone().map(|point| point.0));
    let highest = span(points.map(|point| point.1)).end;
    let is_logarithmic = axis == Axis::Logarithmic;
    let place = |x: f64| if is_logarithmic { x.log10() } else { x };
    let area = SVGBackend::new(file, (720, 360)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(56)
        .build_cartesian_2d(place(x.start)..place(x.end), 0.0..highest * 1.1)?;
    let label = |x: &f64| {
        if is_logarithmic { format!("{:.0}", 10_f64.powf(*x)) } else { format!("{x:.0}") }
    };
    chart.configure_mesh().x_label_formatter(&label).draw()?;
    for (at, line) in lines.iter().enumerate() {
        let color = Palette99::pick(at);
        let points: Vec<_> = line.points.iter().map(|(x, y)| (place(*x), *y)).collect();
        chart
            .draw_series(LineSeries::new(points.iter().copied(), &color))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], Palette99::pick(at)));
        if points.len() < 50 {
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, &color)))?;
        }
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}
