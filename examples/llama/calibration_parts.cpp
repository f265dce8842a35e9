#include "llama/calibration_parts.hpp"

#include <fstream>
#include <iterator>
#include <system_error>

#include "calibrate/report_text.hpp"
#include "llama/failure.hpp"

namespace aq::example {

namespace fs = std::filesystem;

calibration_parts::calibration_parts(const fs::path& path, std::string mark) : folder_(path), mark_(std::move(mark)) {
    folder_ += ".parts";
    std::error_code error;
    fs::create_directory(folder_, error);  // not those above it: a path with a slip is to be refused
    if (!error && !fs::is_directory(folder_, error)) error = std::make_error_code(std::errc::file_exists);
    if (error) throw failure(folder_.string() + ": cannot be made (" + error.message() + ")");
}

fs::path calibration_parts::file_of(std::size_t layer) const { return folder_ / ("layer-" + std::to_string(layer) + ".aqp"); }

fs::path calibration_parts::report_of(std::size_t layer) const { return folder_ / ("layer-" + std::to_string(layer) + ".txt"); }

bool calibration_parts::take(const models::loaded_model& model, models::quantized_weights& q, std::size_t layer) try {
    files_.emplace_back(file_of(layer));
    const bool is_taken = models::read_layer_file(files_.back(), model, q, layer, mark_);
    if (!is_taken) files_.pop_back();
    return is_taken;
} catch (const models::load_error&) {
    return false;  // there is no such file, or it is empty
}

std::size_t calibration_parts::resume(const models::loaded_model& model, models::quantized_weights& q,
                                      std::vector<site_report>& sites) {
    for (; q.layers_done < model.config.layers && take(model, q, q.layers_done); ++q.layers_done) {
        std::ifstream in(report_of(q.layers_done));
        const std::string text{std::istreambuf_iterator<char>(in), {}};
        if (!add_reports(text, q.profile, sites)) break;
    }
    return q.layers_done;
}

void calibration_parts::save(const models::loaded_model& model, models::quantized_weights& q, std::size_t layer,
                             const std::vector<site_report>& sites) {
    std::ofstream out(report_of(layer));  // first: a layer counts when its matrices are there
    if (!(out << text_of(sites, layer)).flush()) throw failure(report_of(layer).string() + ": cannot be written");
    models::write_layer_file(file_of(layer), model, q, layer, mark_);
    if (!take(model, q, layer)) throw failure(file_of(layer).string() + ": cannot be read again");
}

void calibration_parts::remove(std::size_t layers) {
    std::error_code ignored;
    for (std::size_t layer = 0; layer < layers; ++layer) {
        fs::remove(file_of(layer), ignored);
        fs::remove(report_of(layer), ignored);
    }
    fs::remove(folder_, ignored);  // unless something else is in it
}

}  // namespace aq::example
