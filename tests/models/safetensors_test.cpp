#include "models/safetensors.hpp"

#include <doctest/doctest.h>

#include <string>

#include "models/files.hpp"

using namespace aq::models;
using aq_test::contains;
using aq_test::refusal;
using aq_test::safetensors;
using aq_test::safetensors_writer;

namespace {

std::string refusal_of(const std::string& bytes) {
    return refusal([&] {
        tensor_set set;
        set.add_safetensors({"model.safetensors", bytes});
    });
}

/// A file with one tensor "a" whose entry is given, and as much data.
std::string one(const std::string& entry, std::size_t data_bytes) {
    return safetensors("{\"a\":{" + entry + "}}", std::string(data_bytes, 'x'));
}

std::string floats() {
    safetensors_writer writer;
    writer.add("a", "F32", "[2,3]", std::string(24, 'x'));
    writer.add("b", "F16", "[5]", std::string(10, 'y'));
    writer.add("none", "F32", "[0,7]", "");
    writer.add("scalar", "BF16", "[]", "zz");
    return writer.file();
}

}  // namespace

TEST_CASE("safetensors: tensors come back with dtype, shape and bytes") {
    const std::string file = floats();
    tensor_set set;
    set.add_safetensors({"model.safetensors", file});
    REQUIRE(set.all().size() == 4);
    REQUIRE(set.find("b") != nullptr);
    CHECK(set.find("a")->type == dtype::f32);
    CHECK(set.find("a")->shape == std::vector<std::uint64_t>{2, 3});
    CHECK(set.find("b")->type == dtype::f16);
    CHECK(set.find("b")->data == std::string(10, 'y'));
    CHECK(set.find("none")->data.empty());
    CHECK(set.find("scalar")->shape.empty());
    CHECK(set.find("scalar")->data == "zz");
    CHECK(set.find("c") == nullptr);
    CHECK(std::string(name_of(dtype::f64)) == "F64");
    CHECK(bytes_of(dtype::f64) == 8);
}

TEST_CASE("safetensors: metadata, spaces and unknown members of an entry are no obstacle") {
    const std::string entry =
        R"({ "__metadata__":{"format":"pt"}, "a":{"dtype":"I8","extra":[1,{}],"shape":[3],"data_offsets":[0,3]} }   )";
    CHECK(refusal_of(safetensors(entry, "abc")) == "");
    CHECK(refusal_of(safetensors("{}", "")) == "");
}

TEST_CASE("safetensors: a set takes several files, and refuses a name that two of them have") {
    safetensors_writer other;
    other.add("c", "F32", "[1]", "wxyz");
    const std::string first = floats(), second = other.file();
    tensor_set set;
    set.add_safetensors({"1.safetensors", first});
    set.add_safetensors({"2.safetensors", second});
    CHECK(set.all().size() == 5);
    CHECK(refusal([&] {
              set.add_safetensors({"3.safetensors", second});
          }) == "2.safetensors: tensor 'c': is also in 3.safetensors");
    CHECK(set.all().size() == 5);
}

TEST_CASE("safetensors: elements read as float from any address") {
    for (const char* type : {"F32", "F16", "BF16"}) {
        std::string bytes = "?";  // makes every address odd
        for (int i = -20; i < 20; ++i) bytes += aq_test::element(static_cast<float>(i) / 8.0F, type);
        const dtype stored = type[0] == 'B' ? dtype::bf16 : type[1] == '1' ? dtype::f16 : dtype::f32;
        float out[7];
        to_float(stored, std::string_view(bytes).substr(1), 11, 7, out);
        for (int i = 0; i < 7; ++i) CHECK(out[i] == static_cast<float>(i - 9) / 8.0F);
    }
}

TEST_CASE("safetensors: a file cut anywhere is refused by name") {
    const std::string file = floats();
    for (std::size_t size = 0; size < file.size(); ++size) {
        const std::string message = refusal_of(file.substr(0, size));
        CAPTURE(size);
        CHECK(contains(message, "model.safetensors: "));
    }
    CHECK(contains(refusal_of(file + "x"), "the tensors end at 36 but the file holds 37 bytes of data"));
}

TEST_CASE("safetensors: broken headers are refused in a sentence that names the field") {
    struct row {
        std::string file, message;
    };
    const std::string good = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
    const auto shaped = [](const std::string& shape) {
        return one("\"dtype\":\"F32\",\"shape\":" + shape + R"(,"data_offsets":[0,4])", 4);
    };
    const auto placed = [](const std::string& offsets) {
        return one(R"("dtype":"F32","shape":[1],"data_offsets":)" + offsets, 4);
    };
    const row rows[] = {
        // the length of the header
        {aq_test::raw(~std::uint64_t{0}) + "{}", "header length is 18446744073709551615 bytes, more than the limit of 100000000"},
        {aq_test::raw(~std::uint64_t{0} - 7) + "{}", "header length"},  // plus 8 is 0
        {aq_test::raw(std::uint64_t{3}) + "{}", "the header takes 3 bytes at 8 but the file holds 10 bytes"},
        {aq_test::raw(std::uint64_t{0}), "broken at its byte"},
        // JSON
        {safetensors("{\"a\":", ""), "header: the JSON is broken at its byte"},
        {safetensors("[]", ""), "header: the JSON is not an object"},
        {safetensors("7", ""), "header: the JSON is not an object"},
        {safetensors("{}{}", ""), "broken at its byte"},
        {safetensors("{\"a\xFF\":{}}", ""), "broken at its byte"},
        {safetensors("{\"a\":{\"x\":1e999}}", ""), "a number that is too large"},
        {safetensors("{\"a\":{" + good + "},\"a\":{" + good + "}}", "xxxx"), "the name 'a' occurs twice"},
        {one(good + ",\"shape\":[1]", 4), "the name 'shape' occurs twice"},
        {safetensors("{\"a\":" + std::string(100000, '['), ""), "nested deeper than 8 levels"},
        {safetensors(std::string(100000, '['), ""), "not an object"},
        {safetensors("{\"" + std::string(1025, 'n') + "\":{}}", ""), "longer than 1024 bytes"},

        {safetensors("{\"\x1b[2J\":{}}", ""), "broken at its byte"},
        {safetensors("{\"\\u001b[2J\":{}}", ""), "tensor '?[2J': dtype is missing"},
        {safetensors("{\"__metadata__\":{\"a\":1}}", ""), "__metadata__ is not an object of strings"},
        // entries
        {safetensors("{\"a\":5}", ""), "tensor 'a': the header's entry is not an object"},
        {one(R"("shape":[1],"data_offsets":[0,4])", 4), "tensor 'a': dtype is missing"},
        {one(R"("dtype":"F32","data_offsets":[0,4])", 4), "tensor 'a': shape is missing"},
        {one(R"("dtype":"F32","shape":[1])", 4), "tensor 'a': data_offsets is missing"},
        {one(R"("dtype":5,"shape":[1],"data_offsets":[0,4])", 4), "dtype is not a string"},
        {one(R"("dtype":"Q4","shape":[1],"data_offsets":[0,4])", 4), "dtype 'Q4' is not known"},
        {shaped("1"), "shape is not a list"},
        {shaped("[-1]"), "shape has a dimension that is no integer from 0 to 2^48"},
        {shaped("[1.0]"), "shape has a dimension"},
        {shaped("[\"1\"]"), "shape has a dimension"},
        {shaped("[281474976710657]"), "shape has a dimension"},
        {shaped("[18446744073709551617]"), "shape has a dimension"},
        {shaped("[1,1,1,1,1,1,1,1,1]"), "shape has 9 dimensions, more than the limit of 8"},
        {shaped("[2]"), "data_offsets span 4 bytes but shape and dtype ask for 8"},
        {shaped("[0]"), "data_offsets span 4 bytes but shape and dtype ask for 0"},
        // 2^32 * 2^31 * 2 * 4 = 2^66 and 2^48 * 2^14 * 4 = 2^64: each is 0 in 64 bits
        {shaped("[4294967296,2147483648,2]"), "the product of the shape is beyond 64 bits"},
        {one(R"("dtype":"F32","shape":[281474976710656,16384],"data_offsets":[0,0])", 0),
         "the product of the shape is beyond 64 bits"},
        // ranges
        {placed("[0,5]"), "tensor 'a': data_offsets end at 5 but the file holds 4 bytes of data"},
        {placed("[4,0]"), "data_offsets begin at 4, after their end at 0"},
        {placed("[18446744073709551612,0]"), "data_offsets begin at 18446744073709551612, after their end at 0"},
        {placed("[18446744073709551608,18446744073709551612]"), "data_offsets end at 18446744073709551612"},
        {placed("[-4,0]"), "data_offsets are not two non-negative integers"},
        {placed("[0.0,4]"), "data_offsets are not two"},
        {placed("[0,4,8]"), "data_offsets are not two"},
        {placed("{}"), "data_offsets are not two"},
        {placed("[0,18446744073709551616]"), "data_offsets are not two"},
        {safetensors("{\"a\":{" + good + R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})", "xxxxxx"),
         "tensor 'b': data_offsets begin at 2, inside the tensor before, which ends at 4"},
        {safetensors("{\"a\":{" + good + "},\"b\":{" + good + "}}", "xxxx"), "data_offsets begin at 0, inside the tensor before"},
        {safetensors("{\"a\":{" + good + R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":[6,10]}})", "xxxxxxxxxx"),
         "data_offsets begin at 6, not at the end of the tensor before, which ends at 4"},
    };
    for (const row& r : rows) {
        const std::string message = refusal_of(r.file);
        CAPTURE(r.message);
        CAPTURE(message);
        CHECK(contains(message, "model.safetensors: "));
        CHECK(contains(message, r.message));
    }
}

TEST_CASE("safetensors: the count of values and of tensors is limited") {
    std::string list = "1";
    for (int i = 0; i < 10000; ++i) list += ",1";
    CHECK(contains(refusal_of(one("\"x\":[" + list + "]", 0)), "the JSON of 'a' has more than 10000 values"));
    std::string header = "{\"x\":{}";
    for (std::size_t i = 0; i <= tensor_set::max_tensors; ++i)
        header += ",\"" + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    CHECK(contains(
        refusal_of(safetensors(header.replace(0, 7, "{\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}") + "}", "")),
        "the header names more than 100000 tensors"));
}

TEST_CASE("safetensors: every single changed byte of a header is read or refused, never more") {
    const std::string file = floats();
    int read = 0, refused = 0;
    for (std::size_t position = 0; position < 200; ++position) {
        for (const int change : {1, 2, 0x10, 0x20, 0x80, 0xFF}) {
            std::string changed = file;
            changed[position] = static_cast<char>(changed[position] ^ change);
            ++(refusal_of(changed).empty() ? read : refused);
        }
    }
    CHECK(refused > 900);
    CHECK(read > 0);  // a name may change
}
