namespace Normalization.Core.Comparison;

/// <summary>Which direction of a metric is the better one.</summary>
public enum Better
{
    /// <summary>Neither: the number describes.</summary>
    Neither,

    /// <summary>Lower is better.</summary>
    Lower,

    /// <summary>Higher is better.</summary>
    Higher,
}

/// <summary>What a metric is: its id in the records, its unit, the legend readers see.</summary>
/// <param name="Id">The permanent id, snake_case.</param>
/// <param name="Aspect">One of <see cref="Aspects"/>.</param>
/// <param name="Title">A few words for a column head.</param>
/// <param name="Unit">The unit; <c>1</c> for a pure number.</param>
/// <param name="Better">The better direction.</param>
/// <param name="Legend">A sentence that says exactly what was measured.</param>
public sealed record Metric(string Id, string Aspect, string Title, string Unit, Better Better, string Legend)
{
    /// <summary>Whether a value is a share of a whole, from 0 to 1.</summary>
    public bool IsShare { get; init; }
}

/// <summary>The table of every metric the harness records.</summary>
public static class Metrics
{
    /// <summary>Every metric, in the order of report columns.</summary>
    public static IReadOnlyList<Metric> All { get; } =
    [
        new("set_mean_error", Aspects.Outputs, "mean error", "1", Better.Lower,
            "Largest |mean of the normalized values (weight 1, bias 0) over a reduction set of the strategy's own|; 0 is right, but where no mean is subtracted it is what is left of it. Float."),
        new("set_variance_error", Aspects.Outputs, "variance error", "1", Better.Lower,
            "Largest |population variance of the normalized values over a reduction set - v / (v + epsilon)|, v the input's variance there in double. Float. For full whitening the exact value is the diagonal of S (S + epsilon I)^-1; nothing is recorded for strategies that mix their sets in other ways."),
        new("float_error", Aspects.Outputs, "float error", "1", Better.Lower,
            "Largest |float output - double output| over the largest |weight * normalized| + |bias| of its reduction set (of the tensor where the strategy names no sets, or mixes them as whitening does). Random weight and bias."),
        new("distance", Aspects.Outputs, "distance", "1", Better.Neither,
            "Root mean square of the difference between two strategies' normalized outputs (weight 1, bias 0) for the same input. Double. Parameter: other."),
        new("correlation_left", Aspects.Outputs, "correlation left", "1", Better.Lower,
            "Largest |correlation| between two different channels of the output (weight 1, bias 0), constant channels left out. Double."),
        new("condition_number_left", Aspects.Outputs, "condition left", "1", Better.Lower,
            "Condition number of the covariance of the output's channels (weight 1, bias 0), constant channels left out; infinite where channels are linearly dependent. Double."),
        new("whiteness_error", Aspects.Outputs, "whiteness error", "1", Better.Lower,
            "Largest |cov(output) - S (S + epsilon I)^-1| with S the input's channel covariance. Double."),
        new("claim", Aspects.Outputs, "claim", "1", Better.Lower,
            "Relative deviation from a property (largest |difference| over largest |output|); of batch-dependence, how far the output moves with the other samples, which must exceed the tolerance. Weight 1, bias 0, double; epsilon scaled with the input, or 1e-15 where the factors differ by channel or sample. Parameters: claim, declared, verdict (verified, refuted, holds undeclared, not claimed), tolerance."),
        new("train_inference_gap", Aspects.Outputs, "train/inference gap", "1", Better.Lower,
            "Root mean square difference between training and inference output of one batch, over the root mean square of the training output, after a stated number of training batches. Random weight and bias, double. Parameter: batches."),
        new("input_recovery_error", Aspects.Outputs, "input recovery", "1", Better.Lower,
            "Largest |output - input| over largest |input| when weight = sqrt(var_c + epsilon) and bias = mean_c of each channel of the batch: 0 where a strategy can represent the identity."),

        new("gradient_error_input", Aspects.Gradients, "input gradient error", "1", Better.Lower,
            "Largest |analytic - five-point difference| over largest |five-point difference|, input gradient, double, random upstream gradient, weight and bias; over a random subset of the elements. Parameter: mode (training, inference)."),
        new("gradient_error_parameter", Aspects.Gradients, "parameter gradient error", "1", Better.Lower,
            "As the input gradient error, for one parameter. Parameters: parameter (weight, bias), mode."),
        new("gradient_sum_error", Aspects.Gradients, "gradient sum", "1", Better.Lower,
            "Largest |sum of the input gradient over a reduction set| over the sum of its absolute values there; exactly 0 for centred strategies."),
        new("gradient_projection_error", Aspects.Gradients, "projection identity", "1", Better.Lower,
            "Largest deviation, over a reduction set, of sum(dx * xhat) from epsilon * r^3 * sum(dxhat * xhat), over r * sum|dxhat * xhat|; r = 1 / sqrt(v + epsilon), weight 1, bias 0. For full whitening the same along the eigenvectors of the covariance."),
        new("gradient_gain", Aspects.Gradients, "gradient gain", "1", Better.Neither,
            "|input gradient| / |output gradient| (Euclidean norms) for a random upstream gradient; weight 1, bias 0."),
        new("bias_before_gradient", Aspects.Gradients, "bias before", "1", Better.Neither,
            "Largest |gradient of a per-channel bias added before the strategy| over the sum of |input gradient| of its channel; 0 where the strategy annihilates the bias."),
        new("weight_scale_output_error", Aspects.Gradients, "f(aWu) = f(Wu)", "1", Better.Lower,
            "Largest change of the output, over its largest value, when the weights of the linear layer before the strategy are scaled by a and epsilon by a^2. Parameter: a."),
        new("weight_scale_gradient_error", Aspects.Gradients, "gradient scaled 1/a", "1", Better.Lower,
            "Largest deviation of a * (gradient for a W) from (gradient for W), over the largest of the latter; epsilon scaled by a^2. Parameter: a."),
        new("jacobian_singular_value", Aspects.Gradients, "singular value", "1", Better.Neither,
            "Singular values of the Jacobian of a random linear layer followed by the strategy: one sample's output by the same sample's input, in a batch of 32, at up to 4 x 4 positions; weight 1, bias 0. Largest first, up to 32 evenly spaced ones of all. Parameter: index (from 1)."),
        new("jacobian_condition", Aspects.Gradients, "Jacobian spread", "1", Better.Lower,
            "Largest over median singular value of the Jacobian of a random linear layer followed by the strategy."),

        new("output_noise", Aspects.BatchSize, "output noise", "1", Better.Lower,
            "Root mean square deviation of one fixed sample's output over random batches that contain it, over the root mean square of its mean output; random weight and bias. Spread: 10th to 90th percentile over the batches. Parameter: n."),
        new("mean_estimate_error", Aspects.BatchSize, "mean estimate error", "1", Better.Lower,
            "Root mean square of (mean - population mean) / population standard deviation over the strategy's reduction sets and random batches; the population is that of the same channels over all samples. Spread: 10th to 90th percentile over the batches. Parameter: n."),
        new("variance_estimate_error", Aspects.BatchSize, "variance estimate error", "1", Better.Lower,
            "Root mean square of (variance / population variance - 1) over the strategy's reduction sets and random batches. Spread: 10th to 90th percentile over the batches. Parameter: n."),
        new("gradient_noise", Aspects.BatchSize, "gradient noise", "1", Better.Lower,
            "Root mean square deviation of one fixed sample's input gradient over random batches, over the root mean square of its mean; each sample has an upstream gradient of its own. Spread: 10th to 90th percentile over the batches. Parameter: n."),
        new("batch_train_inference_gap", Aspects.BatchSize, "train/inference gap", "1", Better.Lower,
            "Root mean square difference between training and inference output at batch size n, over the root mean square of the training output, running statistics fed with random batches of that size after those of the smaller ones (150 more at the smallest). Spread: 10th to 90th percentile over 8 batches. Parameter: n."),

        new("ns_per_element", Aspects.Speed, "time", "ns/element", Better.Lower,
            "Median time of a call over the number of elements; float, random weight and bias. Spread: 95 % interval of the median over the rounds (percentile bootstrap). Parameters: shape, layout, direction, threads; of the speed benchmark also engine (interleaved; alone, which takes no turns; or benchmarkdotnet, whose iterations are the rounds; the spread of these two spans the intervals of several beginnings), scaling, group_size, part."),
        new("gigabytes_per_second", Aspects.Speed, "throughput", "GB/s", Better.Higher,
            "Bytes a memory-bound implementation must move (forward and inference 2, backward 3 values an element, 2 where the gradient does not read the input; forward+backward their sum) over the median time. Spread: 95 % interval."),
        new("fraction_of_copy", Aspects.Speed, "fraction of copy", "1", Better.Higher,
            "Throughput over that of a memory copy of the same tensor on as many threads, taken round by round in turns with it; median of the rounds' ratios, 1 is what a copy reaches. Spread: 95 % interval."),
        new("fraction_of_bound", Aspects.Speed, "fraction of bound", "1", Better.Higher,
            "Time of the bound over that of the call, taken round by round in turns; median of the rounds' ratios, 1 is as fast as memory allows. The bound is the copy's time for the values that must be moved once (those of the throughput) plus the second read's. For tensors of 25 MB and more. Spread: 95 % interval."),
        new("second_read_ns_per_element", Aspects.Speed, "second read", "ns/element", Better.Neither,
            "Median time, over the number of elements, of reading x (in a backward pass x and dy, one after the other) once more: what it costs that a reduction set, or the weights that go by element beside it, is no smaller than a core's second-level cache. On as many threads, timed in turns with the call. The note says what is read twice; no row where nothing is. Spread: 95 % interval."),
        new("copy_ns_per_element", Aspects.Speed, "copy", "ns/element", Better.Neither,
            "Median time of the memory copy that was timed in turns with the call, over the number of elements. Spread: 95 % interval."),
        new("step_milliseconds", Aspects.Speed, "training step", "ms", Better.Lower,
            "Median time of a training step of a whole network: forward, loss, backward, plain gradient descent; float, one batch over and over. Spread: 95 % interval. Parameters: network, shape (the batch), threads, asked (how many times PyTorch's speed was asked for)."),
        Speedup("pytorch", "PyTorch"),
        Speedup("onednn", "oneDNN"),
        Speedup("tensorprimitives", "TensorPrimitives"),
        Speedup("fastest_peer", "the fastest peer"),
        Share("test_accuracy", "test accuracy", Better.Higher,
            "Share of the test images whose largest logit is at the label, the network in inference; ties count for the first. Parameters: step or what the experiment varies, seed."),
        Share("test_error", "test error", Better.Lower,
            "1 - test accuracy, after the last step."),
        new("train_loss", Aspects.Training, "training loss", "1", Better.Lower,
            "Mean cross-entropy of the batches since the last entry; not formed once the loss is no finite number (the note names the step)."),
        new("activation_percentile", Aspects.Training, "input of one sigmoid", "1", Better.Neither,
            "15th, 50th and 85th percentile over the batch of what one unit of the last hidden layer is given (Ioffe and Szegedy 2015, figure 1). Parameters: percentile, step, seed."),
        new("band_growth", Aspects.Training, "band growth", "1", Better.Lower,
            "85th less 15th percentile of that unit's input at the end, over the same after the first hundred steps."),
        new("steps_to_accuracy", Aspects.Training, "steps to accuracy", "1", Better.Lower,
            "Steps to the first entry at which the test accuracy reaches the stated one; where it never does the number of all steps, and the note says so."),
        Share("best_accuracy", "best test accuracy", Better.Higher,
            "Largest test accuracy over the checkpoints of a training."),
        new("steps_to_baseline", Aspects.Training, "steps to the baseline's best", "1", Better.Lower,
            "Steps to the first checkpoint at which the test accuracy reaches the best that the same seed's baseline has at any checkpoint; where it never does the number of all steps stands for it, and the note says so."),
        new("train_test_gap", Aspects.Training, "train/test gap", "1", Better.Lower,
            "Accuracy on training images (undistorted; as many as there are test images, or all) less test accuracy, both in inference, after the last step."),
        new("logit_gap", Aspects.Training, "training/inference gap", "1", Better.Lower,
            "Root mean square difference between a network's logits with batch statistics and with running ones, for the same test images in batches of the training's size, over the root mean square of the former. Parameters: step, batch_size, and momentum or epsilon."),
        new("bias_drift_error", Aspects.Training, "departure from the prediction", "1", Better.Lower,
            "Largest relative departure of the bias from the straight line T * rate * 2 * mean(t) that ignoring the mean's gradient predicts, or where it is not ignored from 0, over the larger of 1 and the prediction."),
        new("bias_value", Aspects.Training, "bias", "1", Better.Neither, "The bias before the normalization."),
        new("loss_value", Aspects.Training, "loss", "1", Better.Neither, "The loss at a step."),
        new("loss_change", Aspects.Training, "change of the loss", "1", Better.Lower, "Largest less smallest loss over all steps."),
        new("weight_growth", Aspects.Training, "growth of the weights", "1", Better.Neither,
            "Euclidean norm of all weights and biases that stand before a normalization, over what it was before the first step. Parameters: rate, step."),
        new("variance_shift", Aspects.Training, "variance shift", "1", Better.Lower,
            "Mean over channels of the larger of running_var / v and v / running_var, v the population variance over all test images of what a batch norm is given in inference (Li et al. 2018). Parameters: keep (the probability of being kept), layer (from 1), seed."),
        new("variance_shift_growth", Aspects.Training, "growth of the shift with depth", "1", Better.Neither,
            "The variance shift of a layer less that of the layer before it. Parameters: keep, layer (from 2), seed."),
        new("variance_formula_error", Aspects.Training, "departure from the formula", "1", Better.Lower,
            "Relative difference between the variance that dropout makes, summed over every mask with its probability and over all samples, and the formula's. Parameters: formula (direct: (v + mean^2) / p - mean^2; linear: v + (1 - p) / p * sum of w^2 E[x^2]), keep."),
        new("fold_difference", Aspects.Training, "change by folding", "1", Better.Lower,
            "Largest absolute difference of a logit over all test images between the network with its branches and batch norms and the folded one, float; heterogeneous: the folded and rescaled one."),
        new("fold_difference_relative", Aspects.Training, "change by folding, relative", "1", Better.Lower,
            "The same over the largest absolute logit."),
        Share("adapted_accuracy", "test accuracy after adaptation", Better.Higher,
            "Test accuracy on a target domain with statistics of so many of its images, unlabelled; batch norm keeps the source's, whatever there is of the target. Parameters: domain, target_images, seed."),
        Share("oracle_accuracy", "oracle's test accuracy", Better.Higher,
            "Test accuracy on a target domain of the same network trained on it, with labels. Parameters: domain, seed."),
        new("recovery", Aspects.Training, "recovery", "1", Better.Higher,
            "(adapted - source's) / (oracle's - source's) test accuracy on a target domain: 1 is all that the shift cost, 0 nothing of it; not formed where the shift costs less than 2 points. Parameters: domain, seed."),
        Share("source_accuracy", "test accuracy on the source", Better.Higher,
            "Test accuracy on images like those first trained on, after fine-tuning on others. Parameters: batch_size, seed."),
        new("gradient_norm", Aspects.Training, "gradient norm", "1", Better.Neither, "Euclidean norm of the loss's gradient with respect to the scaled weights. Parameter: scale."),
        new("scale_law_error", Aspects.Training, "departure from the scale law", "1", Better.Lower,
            "Largest |a * gradient(a W) - gradient(W)| over the largest |gradient(W)|, and the same of the outputs, epsilon 0."),
        new("orthogonality_error", Aspects.Training, "gradient along the weights", "1", Better.Lower,
            "Largest |<gradient, w>| over |gradient| |w| of a unit's weights, epsilon 0."),
        new("growth_error", Aspects.Training, "departure of the norm's growth", "1", Better.Lower,
            "Relative difference between |w_T|^2 - |w_0|^2 and the sum of rate^2 |gradient|^2 over the steps of plain gradient descent."),
        new("probe_loss", Aspects.Training, "loss ahead of a step", "1", Better.Neither,
            "Least and greatest loss of a step's batch at 0.5 to 4 times the step ahead, in training mode, the mean of those looked at since the last entry; infinite where a loss is no finite number. Parameters: edge, step, seed."),
        new("gradient_distance", Aspects.Training, "change of the gradient", "1", Better.Lower,
            "Greatest Euclidean distance, over all parameters, between the gradient at 0.5 to 4 times a step ahead and the gradient where the step begins, the same batch; the mean of those looked at since the last entry. Parameters: step, seed."),
        new("gradient_change", Aspects.Training, "relative change of the gradient", "1", Better.Lower,
            "That distance over the norm of the gradient where the step begins. Parameters: step, seed."),
        new("effective_beta", Aspects.Training, "effective smoothness", "1", Better.Lower,
            "Greatest ratio of the gradient's change to the way gone, at 0.5 to 4 times a step ahead (the effective beta-smoothness of Santurkar et al. 2018). Parameters: step, seed."),
        new("loss_band_mean", Aspects.Training, "mean width of the loss's band", "1", Better.Lower,
            "Greatest less least loss ahead of a step, the mean over all steps looked at."),
        new("loss_band_median", Aspects.Training, "median width of the loss's band", "1", Better.Lower,
            "The same, the median over all steps looked at."),
        new("gradient_change_mean", Aspects.Training, "mean relative change of the gradient", "1", Better.Lower,
            "The mean over all steps looked at."),
        new("effective_beta_mean", Aspects.Training, "mean effective smoothness", "1", Better.Lower,
            "The mean over all steps looked at."),
        new("snd", Aspects.Training, "SND", "1", Better.Lower,
            "Stochastic normalization disturbance: the mean, over batches that contain a sample x, of the Euclidean distance between x's output and the mean of its outputs, averaged over x. Parameters: what is varied, seed."),
        new("snd_over_next_batch", Aspects.Training, "SND over that of twice the batch", "1", Better.Neither,
            "The SND at a batch size over the SND at the next larger one."),
        new("snd_over_next_group", Aspects.Training, "SND over that of half the group", "1", Better.Neither,
            "The SND at a group size over the SND at the next smaller one."),
        new("layer_gradient_norm", Aspects.Training, "gradient norm of a layer", "1", Better.Neither,
            "Euclidean norm of the loss's gradient with respect to the weights of a hidden layer, before training. Parameters: layer from 1 at the input, seed."),
        new("gradient_growth", Aspects.Training, "growth of the squared gradient a layer", "1", Better.Neither,
            "The factor by which the squared gradient norm of a layer's weights grows from one layer to the one before it: the geometric mean from the last hidden layer back to the second, before training."),
        new("gradient_growth_departure", Aspects.Training, "departure from the predicted growth", "1", Better.Lower,
            "Absolute difference between that factor and what infinitely wide layers predict: pi / (pi - 1) with batch norm, 1 with layer norm and without normalization."),
        Share("dead_relu_share", "dead ReLUs", Better.Lower,
            "Share of the ReLUs that pass none of 500 training images: at the start of each hidden layer, in training mode; at the end the mean over all hidden layers, in inference. Parameters: at, layer or what is varied, seed."),
        new("tanh_slope", Aspects.Training, "mean slope of tanh", "1", Better.Neither,
            "E[1 - tanh^2(sigma z)] of a standard normal z, by the trapezoidal rule. Parameter: sigma."),
        new("tanh_slope_error", Aspects.Training, "departure from the stated slope", "1", Better.Lower,
            "Absolute difference of that slope to the stated figure of three digits. Parameter: sigma."),
        new("gradient_ratio", Aspects.Training, "gradient norm over the last step's", "1", Better.Neither,
            "Euclidean norm of the loss's gradient with respect to a time step's state, over that of the last step's. Parameters: gamma, steps_back, seed."),
        new("bytes_allocated", Aspects.Speed, "allocated", "B", Better.Lower,
            "Managed bytes allocated by one warm call."),
    ];

    private static Metric Share(string id, string title, Better better, string legend) => new(id, Aspects.Training, title, "1", better, legend) { IsShare = true };

    private static Metric Speedup(string id, string peer) => new($"speedup_vs_{id}", Aspects.Speed, $"vs {peer}", "1", Better.Higher,
        $"Time of {peer} over ours for the same values on as many threads, taken round by round in turns; median of the rounds' ratios, above 1 ours is faster. Of several ways to make the call the one with the lowest median counts; the note names it. Spread: 95 % interval; a cell loses to the fastest peer where its upper end is below 0.97.");

    private static readonly Dictionary<string, Metric> ById = All.ToDictionary(metric => metric.Id, StringComparer.Ordinal);

    /// <summary>The metric of an id.</summary>
    /// <param name="id">A metric id.</param>
    /// <exception cref="KeyNotFoundException">No such metric.</exception>
    public static Metric Get(string id) => ById[id];

    /// <summary>The metric of an id, or null where a record comes from another version.</summary>
    /// <param name="id">A metric id.</param>
    public static Metric? Find(string id) => ById.GetValueOrDefault(id);
}
