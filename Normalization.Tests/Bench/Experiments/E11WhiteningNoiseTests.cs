using Normalization.Bench.Experiments;
using Normalization.Core.Comparison;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Experiments;

[TestClass]
public sealed class E11WhiteningNoiseTests
{
    // A standardized value of x moves by the error of the mean, variance 1/M, and of the deviation, x^2 / 2M: 16 of them, x^2 being 1 on average.
    [TestMethod]
    public void Trial_BatchNorm_AgreesWithFirstOrderTheory()
    {
        Experiment experiment = new E11WhiteningNoise();
        Trial trial = experiment.Trials(DigitData.Generate(1, 1, 1), new ExperimentScale(Quick: true, Seeds: 1, Seed: 1)).First(one => one.Strategy == "batch-norm");
        var log = new TrialLog(experiment.Id, trial.Strategy, trial.Seed, CancellationToken.None);

        trial.Run(log);

        Assert.HasCount(5, log.Rows);
        foreach (Measurement row in log.Rows)
        {
            double predicted = Math.Sqrt(16 * 1.5 / (long)row.Parameters!["batch_size"]);
            NumericAssert.Near(predicted, row.Value!.Value, predicted, 0.1, $"batch of {row.Parameters["batch_size"]}");
        }
    }
}
