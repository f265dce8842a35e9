#include "llama/calibration_parts.hpp"

#include <fstream>
#include <iterator>

#include "calibrate/report_text.hpp"
#include "llama/failure.hpp"

namespace aq::example {

namespace fs = std::filesystem;

calibration_parts::calibration_parts(const fs::path& path, std::string mark) : folder_(path), mark_(std::move(mark)) {
    folder_ += ".parts";
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) throw failure(folder_.string() + ": cannot be made: " + error.message());
}

fs::path calibration_parts::file_of(std::size_t layer) const { return folder_ / ("layer-" + std::to_string(layer) + ".aqp"); }

fs::path calibration_parts::report_of(std::size_t layer) const { return folder_ / ("layer-" + std::to_string(layer) + ".txt"); }

bool calibration_parts::take(const models::loaded_model& model, models::quantized_weights& q, std::size_t layer) {
    std::error_code ignored;
    if (!fs::exists(file_of(layer), ignored)) return false;
    files_.emplace_back(file_of(layer));
    return models::read_layer_file(files_.back(), model, q, layer, mark_);
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

void calibration_parts::remove() {
    files_.clear();
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
}

}  // namespace aq::example
