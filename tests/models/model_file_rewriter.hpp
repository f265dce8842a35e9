/// \file
/// Model files with something else in place of one entry, their checksums right.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/model_file_case.hpp"

namespace aq_test {

/// The entries of a good file, to be changed and written again.
class rewriter {
public:
    explicit rewriter(family f = family::llama) : case_(f) {
        const auto path = folder_.path() / "good";
        aq::models::write_model_file(path, case_.model, case_.q, case_.made_for);
        good_.emplace(path);
        REQUIRE(file_.open(good_->bytes().data(), good_->bytes().size()) == aq::status::ok);
    }
    [[nodiscard]] const model_file_case& original() const { return case_; }
    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> all;
        for (std::size_t i = 0; i < file_.size(); ++i) all.emplace_back(file_.name(i));
        return all;
    }
    [[nodiscard]] std::string text(const std::string& entry) const {
        std::string_view bytes;
        REQUIRE(file_.bytes(entry, bytes) == aq::status::ok);
        return std::string(bytes);
    }
    [[nodiscard]] aq::packed_weights matrix(const std::string& entry) const {
        aq::packed_weights w;
        REQUIRE(file_.matrix(entry, w) == aq::status::ok);
        return w;
    }

    /// What takes the place of an entry.
    using adder = std::function<aq::status(aq::pack_writer&)>;
    /// The message about the file with these entries added, in place of those of the same name; without those of `dropped`.
    [[nodiscard]] std::string refusal_with(const std::map<std::string, adder>& added, const std::string& dropped = "") const {
        aq::pack_writer writer;
        for (const std::string& name : names()) {
            if (name != dropped && added.count(name) == 0) REQUIRE(copy(writer, name) == aq::status::ok);
        }
        for (const auto& [name, add] : added) REQUIRE(add(writer) == aq::status::ok);
        std::string bytes;
        REQUIRE(writer.write(sink_of(bytes)) == aq::status::ok);
        const auto path = folder_.write("bad", bytes);
        return refusal([&] { return aq::models::load_model_file(aq::models::mapped_file(path)).name; });
    }
    [[nodiscard]] std::string refusal_of_text(const std::string& entry, const std::string& text) const {
        return refusal_with({{entry, [&](aq::pack_writer& w) { return w.add(entry, std::string_view(text)); }}});
    }
    /// One field of an object has another value; an empty one is none.
    [[nodiscard]] std::string refusal_of_field(const std::string& entry, const std::string& field, const std::string& value,
                                               const std::string& object = "") const {
        return refusal_of_text(entry, changed(text(entry), field, value, object));
    }
    [[nodiscard]] std::string refusal_of_bytes(const std::string& bytes) const {
        const auto path = folder_.write("bad", bytes);
        return refusal([&] { return aq::models::load_model_file(aq::models::mapped_file(path)).name; });
    }
    [[nodiscard]] std::string bytes() const { return std::string(good_->bytes()); }

    /// JSON with a field a line, as it is written: the first of that name behind the object's.
    [[nodiscard]] static std::string changed(std::string json, const std::string& field, const std::string& value,
                                             const std::string& object = "") {
        const std::size_t from = object.empty() ? 0 : json.find("\"" + object + "\": {");
        REQUIRE(from != json.npos);
        const std::string name = "\"" + field + "\": ";
        const std::size_t begin = json.find(name, from);
        if (begin == json.npos) return json.insert(json.find('{', from) + 1, name + value + ",");
        const std::size_t end = json.find_first_of(",\n", begin);
        const std::string with = value.empty() ? "\"unknown\": 0" : name + value;
        return json.replace(begin, end - begin, with);
    }

private:
    [[nodiscard]] aq::status copy(aq::pack_writer& writer, const std::string& name) const {
        const std::size_t i = file_.find(name);
        if (file_.kind(i) == aq::pack_kind::matrix) return writer.add(name, matrix(name));
        if (file_.kind(i) == aq::pack_kind::floats) {
            aq::matrix_view<const float> values;
            AQ_TRY(file_.floats(name, values));
            return writer.add(name, values);
        }
        std::string_view bytes;
        AQ_TRY(file_.bytes(name, bytes));
        return writer.add(name, bytes);
    }

    temporary_folder folder_;
    model_file_case case_;
    std::optional<aq::models::mapped_file> good_;
    aq::pack_file file_;
};

}  // namespace aq_test
