//! Plots: panels of bars in groups, with the spread of each bar, as SVG.
//!
//! A panel has an axis of its own that begins at zero, so bars of one panel may be compared by eye. What is drawn is what
//! is given; nothing is measured or reckoned here.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle, SVGBackend,
    Text, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What it belongs to in every group: the legend names it, and its colour is that of all of the series.
    pub series: String,
    /// Its height.
    pub value: f64,
    /// Where the line begins that shows the spread.
    pub least: f64,
    /// Where it ends.
    pub greatest: f64,
}

/// Bars side by side.
#[derive(Debug, Clone)]
pub struct Group {
    /// What stands below.
    pub name: String,
    /// From left to right.
    pub bars: Vec<Bar>,
}

/// A diagram.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What stands above, with the unit.
    pub title: String,
    /// From left to right.
    pub groups: Vec<Group>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<T = ()> = Result<T, Box<dyn Error>>;

/// Of the whole plot, in pixels.
const WIDTH: u32 = 960;
const LEGEND: u32 = 36;
const PANEL: u32 = 250;
const COLUMNS: usize = 2;
const FONT: &str = "sans-serif";
/// How wide a bar is, where a group has a width of 1; between two groups there is some room.
const BAR: f64 = 0.36;
/// Colours that people who see few can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(153, 153, 153),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// Draws the panels in two columns under one legend. The document of an SVG file.
pub fn svg(panels: &[Panel]) -> Drawn<String> {
    let rows = panels.len().div_ceil(COLUMNS);
    let height = LEGEND + PANEL * u32::try_from(rows)?;
    let mut document = String::new();
    {
        let root = SVGBackend::with_string(&mut document, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let series = series_of(panels);
        let (top, below) = root.split_vertically(LEGEND);
        legend(&top, &series)?;
        for (area, panel) in below.split_evenly((rows, COLUMNS)).iter().zip(panels) {
            draw(area, panel, &series)?;
        }
        root.present()?;
    }
    Ok(document)
}

/// The names of all series, in the order in which they come first.
fn series_of(panels: &[Panel]) -> Vec<&str> {
    let mut names = Vec::new();
    for bar in panels.iter().flat_map(|panel| &panel.groups).flat_map(|group| &group.bars) {
        if !names.contains(&bar.series.as_str()) {
            names.push(&bar.series);
        }
    }
    names
}

fn colour(series: &[&str], name: &str) -> RGBColor {
    let place = series.iter().position(|other| *other == name).unwrap_or_default();
    COLOURS[place % COLOURS.len()]
}

fn legend(area: &Area<'_>, series: &[&str]) -> Drawn {
    let style = (FONT, 14).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
    let mut left = 60;
    for name in series {
        area.draw(&Rectangle::new([(left, 12), (left + 14, 26)], colour(series, name).filled()))?;
        area.draw(&Text::new(*name, (left + 20, 19), style.clone()))?;
        left += 160;
    }
    Ok(())
}

fn draw(area: &Area<'_>, panel: &Panel, series: &[&str]) -> Drawn {
    let bars = || panel.groups.iter().flat_map(|group| &group.bars);
    let highest = bars().map(|bar| bar.greatest.max(bar.value)).fold(0.0, f64::max);
    // Room for the figures above the bars; a panel without any has an axis all the same.
    let top = if highest > 0.0 { highest * 1.15 } else { 1.0 };
    let count = u32::try_from(panel.groups.len())?;
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 15))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..f64::from(count), 0.0..top)?;
    chart.configure_mesh().disable_x_mesh().max_light_lines(1).x_labels(0).y_labels(6).draw()?;
    let below = (FONT, 12).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Top));
    let above = (FONT, 11).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Bottom));
    for (group, number) in panel.groups.iter().zip(0_u32..) {
        // An axis of numbers has no names, so they are put where it is, in pixels of the whole plot.
        let (middle, axis) = chart.backend_coord(&(f64::from(number) + 0.5, 0.0));
        let (left, top) = area.get_base_pixel();
        area.draw(&Text::new(group.name.as_str(), (middle - left, axis - top + 6), below.clone()))?;
        let width = BAR * f64::from(u32::try_from(group.bars.len())?);
        let mut left = f64::from(number) + 0.5 - width / 2.0;
        for bar in &group.bars {
            let (middle, right) = (left + BAR / 2.0, left + BAR);
            let fill = colour(series, &bar.series).filled();
            chart.draw_series([Rectangle::new([(left, 0.0), (right, bar.value)], fill)])?;
            chart.draw_series([PathElement::new([(middle, bar.least), (middle, bar.greatest)], BLACK)])?;
            let height = bar.greatest.max(bar.value);
            chart.draw_series([Text::new(short(bar.value), (middle, height), above.clone())])?;
            left = right;
        }
    }
    Ok(())
}

/// A figure in three digits or more.
fn short(value: f64) -> String {
    format!("{value:.*}", digits(value))
}

/// How many digits after the point leave three of a figure, or more.
pub fn digits(value: f64) -> usize {
    match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(series: &str, value: f64) -> Bar {
        Bar { series: series.into(), value, least: value * 0.9, greatest: value * 1.1 }
    }

    #[test]
    fn what_is_given_can_be_read_in_the_plot() {
        let groups = vec![
            Group { name: "left".into(), bars: vec![bar("one", 12.34)] },
            Group { name: "right".into(), bars: vec![bar("one", 5.0), bar("two", 123.4)] },
        ];
        let panels = [Panel { title: "speed (m/s)".into(), groups }, Panel { title: "empty".into(), groups: vec![] }];
        let drawn = svg(&panels).unwrap();
        for text in ["speed (m/s)", "empty", "left", "right", "one", "two", "12.3", "5.00", "123"] {
            assert!(drawn.lines().any(|line| line == text), "{text} is missing in {drawn}");
        }
    }

    #[test]
    fn bars_of_a_series_have_one_colour_and_those_of_another_another() {
        let groups = vec![Group { name: "g".into(), bars: vec![bar("one", 1.0), bar("two", 2.0), bar("one", 3.0)] }];
        let drawn = svg(&[Panel { title: "t".into(), groups }]).unwrap();
        let count = |colour: &str| drawn.lines().filter(|l| l.starts_with("<rect ") && l.contains(colour)).count();
        // One of each is the legend's.
        assert_eq!((count("#999999"), count("#56B4E9")), (3, 2), "{drawn}");
    }
}
