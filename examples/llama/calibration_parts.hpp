/// \file
/// The layers of a calibration that may be broken off: until the model is written to OUT, each is a file of its own in OUT.parts.
#pragma once

#include <filesystem>
#include <list>
#include <string>

#include "calibrate/recipe.hpp"
#include "models/model_file.hpp"

namespace aq::example {

class calibration_parts {
public:
    /// For a model that will be written to `path`; `mark` is all that the layers depend on. Makes the folder, or throws failure.
    calibration_parts(const std::filesystem::path& path, std::string mark);

    /// Takes all layers from the first on that are there with this mark, and what was reported of their sites; their number.
    std::size_t resume(const models::loaded_model& model, models::quantized_weights& q, std::vector<site_report>& sites);
    /// Writes a layer and what is reported of it, and lets `q` borrow from the file, so that memory holds no layer but the one in work. Throws
    /// load_error, failure.
    void save(const models::loaded_model& model, models::quantized_weights& q, std::size_t layer,
              const std::vector<site_report>& sites);
    /// The files, of that many layers, and the folder. What was taken stays mapped as long as this lives.
    void remove(std::size_t layers);

private:
    [[nodiscard]] std::filesystem::path file_of(std::size_t layer) const;
    [[nodiscard]] std::filesystem::path report_of(std::size_t layer) const;
    [[nodiscard]] bool take(const models::loaded_model& model, models::quantized_weights& q, std::size_t layer);

    std::filesystem::path folder_;
    std::string mark_;
    std::list<models::mapped_file> files_;
};

}  // namespace aq::example
