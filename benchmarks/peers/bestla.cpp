/// \file
/// BesTLA's weight-only products: weights of 4 or 8 bits by channels or blocks of 128, activations quantized to bytes with the
/// same blocks at each product. Its kernels for one instruction set are measured beside those for the next.
#include <bestla/bestla_parallel.h>
#include <bestla/bestla_prologue_b.h>
#include <bestla/bestla_wrapper.h>

#include <cstring>
#include <exception>

#include "peers/peer.hpp"
#include "peers/tolerance.hpp"

namespace aq_bench {
namespace {

namespace epilogue = bestla::epilogue::gemm;
namespace wrapper = bestla::wrapper::gemm;
namespace parallel = bestla::parallel::gemm;
using bestla::prologue_a::gemm::ActivationF32KBlockQuantize;
using bestla::prologue_b::gemm::WeightKBlockNInteger;
using bestla::utils::avector;

/// A scale for each output channel, applied once at the end.
template <typename Core>
struct by_channels {
    using write_back = epilogue::PcKBlockCompInt8Epilogue<epilogue::AccumulatorWriteBackFp32>;
    using launcher = wrapper::LauncherBase<Core, ActivationF32KBlockQuantize, WeightKBlockNInteger, write_back>;
    using scheduler = parallel::SchedulerBase<Core>;

    template <typename Weights, typename Codes>
    static auto output(Weights& w, Codes& x, int k, float* y, int n) {
        typename write_back::Param result{};
        result.param1.scalesB = w.template SPtr<char>();
        result.param1.scaleBdtype = w.SDtype();
        result.param1.scalesA = x.template SPtr<float>();
        result.param1.zpA = x.template ZPtr<std::uint8_t>();
        result.param1.reduceB = w.template RPtr<char>();
        result.param1.reduceBdtype = w.RDtype();
        result.param1.K = k;
        result.param2.C = y;
        result.param2.ldc = n;
        return result;
    }
};

/// A scale for each block, applied as blocks end.
template <typename Core>
struct by_blocks {
    using launcher =
        wrapper::LauncherIntKBlock<Core, ActivationF32KBlockQuantize, WeightKBlockNInteger, epilogue::AccumulatorWriteBackFp32>;
    using scheduler = parallel::SchedulerKBlockS<Core>;

    template <typename Weights, typename Codes>
    static auto output(Weights&, Codes&, int, float* y, int n) {
        typename epilogue::AccumulatorWriteBackFp32::Param result{};
        result.C = y;
        result.ldc = n;
        return result;
    }
};

template <typename Kind>
class bestla_product final : public prepared_product {
    using launcher = typename Kind::launcher;
    using weights = typename launcher::PrologueB::StorageWeight;

public:
    bestla_product(const product_input& in, BTLA_DTYPE format, int block)
        : m_(static_cast<int>(in.shape.m)),
          n_(static_cast<int>(in.shape.n)),
          k_(static_cast<int>(in.shape.k)),
          block_(block),
          x_(in.x),
          y_(in.shape.m * in.shape.n),
          codes_(launcher::PrologueA::createStorage(m_, k_, block_, false)) {
        x_bytes_.resize(codes_.mSize);
        codes_.assign(x_bytes_.data());
        const weights layout =
            launcher::PrologueB::createStorage(n_, k_, block_, format, BTLA_DTYPE::F32, BTLA_DTYPE::F32, false);
        weight_bytes_ = static_cast<double>(layout.mSize);
        w_bytes_.resize(layout.mSize * in.copies);
        for (std::size_t copy = 0; copy < in.copies; ++copy) {
            w_.push_back(layout);
            w_.back().assign(w_bytes_.data() + copy * layout.mSize);
        }
        launcher::PrologueB::packTransposeWeight(n_, k_, in.w, k_, &w_.front(), &thread_);
        for (std::size_t copy = 1; copy < in.copies; ++copy)
            std::memcpy(w_bytes_.data() + copy * layout.mSize, w_bytes_.data(), layout.mSize);
    }

    void run(std::size_t copy) override {
        const bestla::utils::GemmProblem problem(1, m_, n_, k_, block_);
        const typename launcher::AParam x{{x_, k_}, &codes_};
        const typename launcher::Param arguments{problem, x, {&w_[copy]}, Kind::output(w_[copy], codes_, k_, y_.data(), n_)};
        bestla::parallel::GemmRunWithA<typename Kind::scheduler, launcher>(arguments, &thread_);
    }
    [[nodiscard]] const float* y() const override { return y_.data(); }
    [[nodiscard]] double weight_bytes() const override { return weight_bytes_; }

private:
    int m_, n_, k_, block_;
    const float* x_;
    avector<float> y_;
    avector<std::int8_t> x_bytes_, w_bytes_;
    bestla::storage::gemm::StorageQuantActivation codes_;
    std::vector<weights> w_;
    double weight_bytes_ = 0.0;
    bestla::parallel::SingleThread thread_;
};

/// Blocks of 0 stand for whole rows.
template <typename Channels, typename Blocks>
peer make_peer(const std::string& format, BTLA_DTYPE type, int block, int levels, bool available) {
    const double group = block > 0 ? block : 11008;
    const double tolerance = product_error(rounding_error(group, 127), rounding_error(group, levels));
    return {"bestla", format, tolerance, [=](const product_input& in) -> std::unique_ptr<prepared_product> {
                // Not on several threads: those of BesTLA spin for ever and take the processor from what is measured next.
                if (!available || in.shape.threads != 1) return nullptr;
                if (block == 0)
                    return std::make_unique<bestla_product<by_channels<Channels>>>(in, type, static_cast<int>(in.shape.k));
                if (in.shape.k % static_cast<std::size_t>(block) != 0) return nullptr;
                return std::make_unique<bestla_product<by_blocks<Blocks>>>(in, type, block);
            }};
}

template <typename Channels, typename Blocks>
void add_peers(std::vector<peer>& to, const std::string& isa, bool available) {
    to.push_back(make_peer<Channels, Blocks>("w4pca8_" + isa, BTLA_DTYPE::S4_CLIP, 0, 7, available));
    to.push_back(make_peer<Channels, Blocks>("w4g128a8_" + isa, BTLA_DTYPE::S4_CLIP, 128, 7, available));
    // its products for AVX2 add pairs in 16 bits, which saturate where both factors are bytes
    if (isa != "avx2") to.push_back(make_peer<Channels, Blocks>("w8pca8_" + isa, BTLA_DTYPE::S8, 0, 127, available));
}

/// Null where it does not understand the processor: the library it asks throws on some virtual machines.
bestla::device::CpuDevice* find_processor() {
    try {
        return bestla::device::CpuDevice::getInstance();
    } catch (const std::exception&) {
        return nullptr;
    }
}

}  // namespace

/// The scale of a channel covers a row: 11008 values at most.
std::vector<peer> bestla_peers() {
    using namespace bestla::gemm;
    bestla::device::CpuDevice* cpu = find_processor();
    std::vector<peer> result;
    if (!cpu) return result;
    add_peers<ICoreRowNAvx2vnni<24, 4>, ICoreRowNAvx2vnniKBlock<24, 2>>(result, "avx2", cpu->AVX2());
    add_peers<ICoreRowNAvxvnni<24, 4>, ICoreRowNAvxvnniKBlock<24, 2>>(result, "avxvnni", cpu->AVX_VNNI());
    add_peers<ICoreRowNAvx512vnni<48, 8>, ICoreRowNAvx512vnniKBlock<48, 4>>(result, "avx512vnni", cpu->AVX512_VNNI());
    return result;
}

}  // namespace aq_bench
