// Command dashboard draws a Grafana dashboard as a picture, with what a Prometheus server knows: every query of every panel, in its place.
// It is for pictures in the documentation, without a Grafana.
//
//	dashboard --prometheus http://127.0.0.1:9090 --minutes 5 --out docs/dashboard.png config/grafana/meerkat.json
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image/color"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

type dashboard struct {
	Title  string  `json:"title"`
	Panels []panel `json:"panels"`
}

type panel struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct {
		X int `json:"x"`
		Y int `json:"y"`
		W int `json:"w"`
		H int `json:"h"`
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
	} `json:"targets"`
}

// The grid's unit, in points: Grafana's dashboards are 24 of them wide.
const (
	unitWidth  = 40
	unitHeight = 22
	gap        = 4
)

var (
	ink    = color.Gray{Y: 40}
	faint  = color.Gray{Y: 110}
	border = color.Gray{Y: 200}
	lines  = []color.Color{
		color.RGBA{R: 31, G: 119, B: 180, A: 255}, color.RGBA{R: 214, G: 90, B: 14, A: 255}, color.RGBA{R: 44, G: 140, B: 44, A: 255},
		color.RGBA{R: 170, G: 40, B: 50, A: 255}, color.RGBA{R: 130, G: 90, B: 180, A: 255}, color.RGBA{R: 120, G: 80, B: 70, A: 255},
		color.RGBA{R: 200, G: 100, B: 170, A: 255}, color.RGBA{R: 90, G: 90, B: 90, A: 255}, color.RGBA{R: 150, G: 150, B: 20, A: 255},
		color.RGBA{R: 20, G: 150, B: 170, A: 255},
	}
)

type server struct {
	address  string
	from, to time.Time
	step     time.Duration
	interval string // what stands for $__rate_interval
}

type series struct {
	labels map[string]string
	points plotter.XYs
}

func main() {
	s := server{step: time.Second}
	var minutes int
	var out string
	flag.StringVar(&s.address, "prometheus", "http://127.0.0.1:9090", "the server's `URL`")
	flag.StringVar(&s.interval, "rate-interval", "10s", "what stands for $__rate_interval: four times the scrape interval, as in Grafana")
	flag.IntVar(&minutes, "minutes", 5, "how much of the past is drawn")
	flag.StringVar(&out, "out", "dashboard.png", "the picture's `file`")
	flag.Parse()
	s.to = time.Now()
	s.from = s.to.Add(-time.Duration(minutes) * time.Minute)
	if err := s.draw(context.Background(), flag.Arg(0), out); err != nil {
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
}

func (s server) draw(ctx context.Context, file, out string) error {
	body, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("name the dashboard's file: %w", err)
	}
	var d dashboard
	if err := json.Unmarshal(body, &d); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	height := 0
	for _, p := range d.Panels {
		height = max(height, p.GridPos.Y+p.GridPos.H)
	}
	canvas := vgimg.NewWith(vgimg.UseWH(24*unitWidth, vg.Length(height*unitHeight)), vgimg.UseDPI(100), vgimg.UseBackgroundColor(color.White))
	for _, p := range d.Panels {
		g := p.GridPos
		left, top := vg.Length(g.X*unitWidth), vg.Length((height-g.Y)*unitHeight)
		place := draw.Canvas{Canvas: canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: left + gap, Y: top - vg.Length(g.H*unitHeight) + gap}, Max: vg.Point{X: left + vg.Length(g.W*unitWidth) - gap, Y: top - gap},
		}}
		if err := s.panel(ctx, place, p); err != nil {
			return fmt.Errorf("panel %q: %w", p.Title, err)
		}
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	_, err = vgimg.PngCanvas{Canvas: canvas}.WriteTo(f)
	return errors.Join(err, f.Close())
}

func (s server) panel(ctx context.Context, c draw.Canvas, p panel) error {
	if p.Type == "row" {
		write(c, p.Title, 12, ink, vg.Point{X: c.Min.X + 2, Y: c.Center().Y - 4}, draw.XLeft)
		return nil
	}
	c.SetColor(border)
	c.SetLineWidth(0.5)
	c.Stroke(c.Rectangle.Path())
	if p.Type == "stat" {
		return s.stat(ctx, c, p)
	}
	plotted := plot.New()
	plotted.BackgroundColor = nil
	plotted.Title.Text, plotted.Title.TextStyle.Color, plotted.Title.TextStyle.Font.Size, plotted.Title.Padding = p.Title, ink, 9, 4
	plotted.X.Tick.Marker = plot.TimeTicks{Format: "15:04"}
	plotted.Y.Tick.Marker = ticks{p.FieldConfig.Defaults.Unit}
	plotted.Legend.Top, plotted.Legend.Left, plotted.Legend.TextStyle.Font.Size, plotted.Legend.ThumbnailWidth = true, true, 6.5, 10
	for _, axis := range []*plot.Axis{&plotted.X, &plotted.Y} {
		axis.Tick.Label.Font.Size, axis.Tick.Label.Color, axis.LineStyle.Width, axis.Tick.LineStyle.Width, axis.Padding = 7, faint, 0.3, 0.3, 0
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{Y: 235}, color.Gray{Y: 235}
	plotted.Add(grid)
	n := 0
	for _, target := range p.Targets {
		found, err := s.ask(ctx, target.Expr)
		if err != nil {
			return err
		}
		for _, one := range found {
			line, err := plotter.NewLine(one.points)
			if err != nil {
				continue // a series of NaN alone, such as a quantile of nothing
			}
			line.Color, line.Width = lines[n%len(lines)], 1
			plotted.Add(line)
			plotted.Legend.Add(legend(target.Legend, one.labels), line)
			n++
		}
	}
	plotted.X.Min, plotted.X.Max = float64(s.from.Unix()), float64(s.to.Unix())
	plotted.Y.Min = min(plotted.Y.Min, 0)
	if n == 0 || plotted.Y.Max <= plotted.Y.Min {
		plotted.Y.Min, plotted.Y.Max = 0, 1
	}
	plotted.Y.Max += (plotted.Y.Max - plotted.Y.Min) * (0.12 + 0.1*float64(min(n, 5))) // the legend's place
	plotted.Draw(draw.Crop(c, 3, -6, 3, -4))
	return nil
}

func (s server) stat(ctx context.Context, c draw.Canvas, p panel) error {
	found, err := s.ask(ctx, p.Targets[0].Expr)
	if err != nil {
		return err
	}
	value := "–"
	if len(found) > 0 && len(found[0].points) > 0 {
		value = human(found[0].points[len(found[0].points)-1].Y, p.FieldConfig.Defaults.Unit)
	}
	write(c, p.Title, 9, ink, vg.Point{X: c.Center().X, Y: c.Max.Y - 14}, draw.XCenter)
	write(c, value, 22, lines[0], vg.Point{X: c.Center().X, Y: c.Center().Y - 16}, draw.XCenter)
	return nil
}

func write(c draw.Canvas, what string, size vg.Length, ink color.Color, at vg.Point, align draw.XAlignment) {
	style := draw.TextStyle{Color: ink, Font: plot.DefaultFont, XAlign: align, Handler: text.Plain{Fonts: plot.DefaultTextHandler.Cache()}}
	style.Font.Size = size
	c.FillText(style, at, what)
}

// ask has the server answer a query over the time that is drawn.
func (s server) ask(ctx context.Context, query string) ([]series, error) {
	query = strings.NewReplacer("$__rate_interval", s.interval, "$node", ".*").Replace(query)
	values := url.Values{
		"query": {query}, "start": {strconv.FormatInt(s.from.Unix(), 10)}, "end": {strconv.FormatInt(s.to.Unix(), 10)}, "step": {s.step.String()},
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.address+"/api/v1/query_range?"+values.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	var answer struct {
		Error string `json:"error"`
		Data  struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Values [][2]any          `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("%s: %s", query, answer.Error)
	}
	var all []series
	for _, r := range answer.Data.Result {
		one := series{labels: r.Metric}
		for _, v := range r.Values {
			at, _ := v[0].(float64)
			said, _ := v[1].(string)
			if value, err := strconv.ParseFloat(said, 64); err == nil && value == value && value < 1e300 { // neither NaN nor infinite
				one.points = append(one.points, plotter.XY{X: at, Y: value})
			}
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b series) int { return strings.Compare(fmt.Sprint(a.labels), fmt.Sprint(b.labels)) })
	return all, nil
}

var placeholder = regexp.MustCompile(`{{ *(\w+) *}}`)

func legend(format string, labels map[string]string) string {
	return placeholder.ReplaceAllStringFunc(format, func(s string) string { return labels[placeholder.FindStringSubmatch(s)[1]] })
}

// ticks are an axis' labels in a unit.
type ticks struct{ unit string }

// Ticks implements plot.Ticker.
func (t ticks) Ticks(low, high float64) []plot.Tick {
	all := plot.DefaultTicks{}.Ticks(low, high)
	for i := range all {
		if all[i].Label != "" {
			all[i].Label = human(all[i].Value, t.unit)
		}
	}
	return all
}

// human writes a value in one of Grafana's units.
func human(value float64, unit string) string {
	short := func(by float64, names ...string) string {
		i := 0
		for ; value >= by && i < len(names)-1; i++ {
			value /= by
		}
		return strconv.FormatFloat(value, 'g', 3, 64) + names[i]
	}
	switch unit {
	case "s":
		switch {
		case value == 0:
			return "0 s"
		case value < 1e-3:
			return strconv.FormatFloat(value*1e6, 'g', 3, 64) + " µs"
		case value < 1:
			return strconv.FormatFloat(value*1e3, 'g', 3, 64) + " ms"
		}
		return strconv.FormatFloat(value, 'g', 3, 64) + " s"
	case "percentunit":
		return strconv.FormatFloat(value*100, 'g', 3, 64) + " %"
	case "binBps":
		return short(1024, " B/s", " KiB/s", " MiB/s", " GiB/s")
	case "bytes":
		return short(1024, " B", " KiB", " MiB", " GiB")
	case "reqps", "cps", "pps":
		return short(1000, "/s", " K/s", " M/s")
	}
	return short(1000, "", " K", " M")
}
