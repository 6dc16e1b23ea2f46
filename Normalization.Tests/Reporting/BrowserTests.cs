using Microsoft.Playwright;
using Normalization.Core.Reporting;
using Normalization.Tests.Support;

namespace Normalization.Tests.Reporting;

/// <summary>The report page in a real browser: the system's Chromium, driven over a local pipe.</summary>
[TestClass]
[DoNotParallelize]
public sealed class BrowserTests
{
    private static readonly string[] Places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable"];
    private const string Comparison = "";
    private const string Benchmark = "benchmark";

    private static TemporaryFolder? s_folder;
    private static IPlaywright? s_playwright;
    private static IBrowser? s_browser;

    [ClassInitialize]
    public static async Task Open(TestContext context)
    {
        string? chromium = Array.Find(Places, File.Exists);
        if (chromium is null)
        {
            string reason = $"No Chromium at {string.Join(", ", Places)}: the report was not opened in a browser.";
            Assert.AreNotEqual("true", Environment.GetEnvironmentVariable("CI"), reason);
            Assert.Inconclusive(reason);
        }

        s_folder = new TemporaryFolder();
        ReportFiles.WriteAll(s_folder.Path, SampleRun.Build());
        ReportFiles.WriteAll(Directory.CreateDirectory(s_folder.File(Benchmark)).FullName, SampleBenchmark.Build());
        s_playwright = await Playwright.CreateAsync();
        s_browser = await s_playwright.Chromium.LaunchAsync(new BrowserTypeLaunchOptions
        {
            ExecutablePath = chromium,
            Args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
        });
    }

    [ClassCleanup]
    public static async Task Close()
    {
        if (s_browser is not null)
        {
            await s_browser.CloseAsync();
        }

        s_playwright?.Dispose();
        s_folder?.Dispose();
    }

    [TestMethod]
    public async Task Page_WithoutScriptOrNetwork_AsksForNothingElse()
    {
        var requests = new List<string>();
        IPage page = await NewPage(1280, ColorScheme.Light, script: false, requests);
        Assert.HasCount(1, requests, string.Join("\n", requests));
        Assert.IsTrue(await page.Locator("h1").IsVisibleAsync());
        Assert.IsGreaterThan(3, await page.Locator("svg").CountAsync());
    }

    [TestMethod]
    [DataRow(Comparison, 390)]
    [DataRow(Comparison, 768)]
    [DataRow(Comparison, 1280)]
    [DataRow(Benchmark, 390)]
    [DataRow(Benchmark, 1280)]
    public async Task Page_AtWidth_NeverScrollsSideways(string report, int width)
    {
        IPage page = await NewPage(width, ColorScheme.Light, report: report);
        await page.EvaluateAsync("document.querySelectorAll('details').forEach(d => d.open = true)");
        int overflow = await page.EvaluateAsync<int>("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        Assert.AreEqual(0, overflow);
    }

    [TestMethod]
    public async Task FirstScreen_OnADesktop_HoldsTheAnswers()
    {
        IPage page = await NewPage(1280, ColorScheme.Light, height: 1024);
        foreach (Finding finding in Findings.Draw(SampleRun.Build()).Take(5))
        {
            ILocator text = page.GetByText(finding.Case, new PageGetByTextOptions { Exact = true }).First;
            var box = await text.BoundingBoxAsync();
            Assert.IsNotNull(box, finding.Case);
            Assert.IsLessThan(1024, box.Y, finding.Case);
        }
    }

    [TestMethod]
    [DataRow(Comparison)]
    [DataRow(Benchmark)]
    public async Task Page_InLightAndDark_HasContrastForText(string report)
    {
        foreach (ColorScheme scheme in new[] { ColorScheme.Light, ColorScheme.Dark })
        {
            IPage page = await NewPage(1280, scheme, report: report);
            double[] ratios = await page.EvaluateAsync<double[]>(ContrastScript);
            Assert.IsGreaterThan(20, ratios.Length);
            Assert.IsGreaterThanOrEqualTo(4.5, ratios.Min(), $"{scheme}: the least contrast is {ratios.Min():f2}.");
        }
    }

    [TestMethod]
    public async Task EveryNumberOfAFinding_WhenFollowed_LeadsToAnElement()
    {
        IPage page = await NewPage(1280, ColorScheme.Light);
        int broken = await page.EvaluateAsync<int>(
            "[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.getElementById(decodeURIComponent(a.hash.slice(1)))).length");
        Assert.AreEqual(0, broken);
        Assert.IsGreaterThan(10, await page.Locator("a[href^='#']").CountAsync());
    }

    private static async Task<IPage> NewPage(int width, ColorScheme scheme, bool script = true, List<string>? requests = null, int height = 900, string report = Comparison)
    {
        IBrowserContext context = await s_browser!.NewContextAsync(new BrowserNewContextOptions
        {
            ViewportSize = new ViewportSize { Width = width, Height = height },
            ColorScheme = scheme,
            JavaScriptEnabled = script,
            Offline = true,
        });
        IPage page = await context.NewPageAsync();
        page.Request += (_, request) => requests?.Add(request.Url);
        await page.GotoAsync(new Uri(Path.Combine(s_folder!.Path, report, "index.html")).AbsoluteUri);
        return page;
    }

    // WCAG contrast of every element with text of its own, against the nearest opaque background behind it.
    private const string ContrastScript = """
        (() => {
          const parse = c => (c.match(/[\d.]+/g) || []).map(Number);
          const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
          const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] === 1) return c; }
            return matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255]; };
          return [...document.body.querySelectorAll('*')]
            .filter(e => !e.closest('svg') && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
            .map(e => { const a = luminance(parse(getComputedStyle(e).color)), b = luminance(behind(e)); return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); });
        })()
        """;
}
