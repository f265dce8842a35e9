#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

#include "calibrate/calibration_report.hpp"
#include "calibrate/site_budget.hpp"
#include "llama/calibrate_settings.hpp"
#include "llama/calibration_parts.hpp"
#include "llama/commands.hpp"
#include "llama/failure.hpp"
#include "llama/terminal.hpp"

namespace aq::example {

namespace {

constexpr std::size_t share_windows = 4;  ///< that shares of the error are measured on

void show(progress& line, double share_done) { line.show(static_cast<std::size_t>(1e4 * share_done), 10000); }

/// One model on its way to a file.
class calibration {
public:
    explicit calibration(const calibrate_options& o)
        : options_(o),
          opened_(o.common),
          kernels_(choose(o.common)),
          run_{options_of(o.common.wanted, model().config), &kernels_, threads_of(o.common)} {
        if (o.out.empty() || std::filesystem::is_directory(o.out)) throw failure("--out '" + o.out + "' is no name for a file");
        if (model().quantized) throw failure(model().name + " is quantized already");
        if (o.rotate == "folded") opened_.rotate();
        recipe_ = recipe_of(o, model());
        windows_ = windows_of(o, model());
        require(quantized_.begin(model().config, model().source), "calibration");
    }

    void run() {
        calibration_parts parts(options_.out, mark_of(options_, model(), windows_));
        plan();
        quantize(parts);
        measure();
        opened_.restore_length();
        models::write_model_file(options_.out, model(), quantized_, options_.common.wanted);
        parts.remove(model().config.layers);
        tell();
    }

private:
    [[nodiscard]] const models::loaded_model& model() const { return *opened_; }
    [[nodiscard]] token_windows few_windows() const {
        return {windows_.begin(), windows_.begin() + static_cast<std::ptrdiff_t>(std::min(windows_.size(), share_windows))};
    }

    /// Which sites get 8 bits.
    void plan() {
        if (options_.budget == 0.0) return;
        progress shown("choosing widths");
        site_budget budget;
        require(
            plan_budget(model(), recipe_, options_.budget, few_windows(), run_, budget, [&](double done) { show(shown, done); }),
            "--budget");
        recipe_.sites_of_layers = budget.sites;
        budget_ = "activations of " + number(budget.bits_per_mac, 2) +
                  " bits a multiply-add; KL from float before calibrating: " + number(budget.kl_high, 4) +
                  " nats a token with 8 bits everywhere, " + number(budget.kl_chosen, 4) + " so, " + number(budget.kl_low, 4) +
                  " with 4\n";
    }

    void quantize(calibration_parts& parts) {
        if (const std::size_t done = parts.resume(model(), quantized_, report_.sites); done > 0)
            std::fprintf(stderr, "%zu of %zu layers are there from a run that was broken off\n", done, model().config.layers);
        progress shown("calibrating");
        calibration_events told;
        told.site = [&](const site_report& r) { report_.sites.push_back(r); };
        told.layer = [&](std::size_t layer) { return parts.save(model(), quantized_, layer, report_.sites), status::ok; };
        told.progress = [&](double done) { show(shown, done); };
        require(calibrator(model(), recipe_, run_).run(windows_, quantized_, told), "calibration");
    }

    /// What each site adds to the distance from the float model.
    void measure() {
        if (options_.report.empty()) return;
        progress shown("measuring sites");
        output_distance distance;
        require(distance.begin(model(), few_windows(), run_), "report");
        activation_profile in_float;
        require(in_float.reset(model().config), "report");
        require(measure_shares(distance, {model().source, &in_float}, {quantized_.source(), &quantized_.profile}, report_.shares,
                               [&](double done) { show(shown, done); }),
                "report");
    }

    void tell() {
        report_.model = model().name;
        report_.family = model().family;
        report_.weights = recipe_.weights;
        report_.uses_gptq = recipe_.uses_gptq;
        const auto rows = table_of(report_);
        table shown(rows.front());
        for (std::size_t i = 1; i < rows.size(); ++i) shown.add(rows[i]);
        std::printf("%s, %s, on %zu windows\n%s\n", model().name.c_str(), options_.common.wanted.name().c_str(), windows_.size(),
                    budget_.c_str());
        shown.print();
        std::printf("\n%s: %s\n", options_.out.c_str(), bytes_text(std::filesystem::file_size(options_.out)).c_str());
        if (options_.report.empty()) return;
        std::ofstream out(options_.report);
        if (!(out << json_of(report_)).flush()) throw failure(options_.report + ": cannot be written");
    }

    const calibrate_options& options_;
    opened_model opened_;
    const kernel_table& kernels_;
    walk_options run_;
    recipe recipe_;
    token_windows windows_;
    models::quantized_weights quantized_;
    calibration_report report_;
    std::string budget_;
};

}  // namespace

void add_calibrate(CLI::App& app) {
    auto o = std::make_shared<calibrate_options>();
    CLI::App& command = *app.add_subcommand(
        "calibrate",
        "Quantize a model on a text, by GPTQ, layer by layer, into one file; a run that is broken off goes on where it was");
    add_options(command, *o);
    command.callback([o] { calibration(*o).run(); });
}

}  // namespace aq::example
