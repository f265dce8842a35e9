// Joins the peers that this build has: found_peers.hpp, written by CMake, lists them as X(eigen) X(openblas) ...
#include <algorithm>

#include "attention_case.hpp"
#include "found_peers.hpp"
#include "limits/limit_for.hpp"
#include "peers/peer.hpp"
#include "product.hpp"

namespace aq_bench {

#define AQ_DECLARE_PEERS(NAME) std::vector<peer> NAME##_peers();
AQ_BENCH_PEERS(AQ_DECLARE_PEERS)
#undef AQ_DECLARE_PEERS
#define AQ_DECLARE_PEERS(NAME) std::vector<attention_peer> NAME##_attention_peers();
AQ_BENCH_ATTENTION_PEERS(AQ_DECLARE_PEERS)
#undef AQ_DECLARE_PEERS

namespace {

template <class Peer>
[[maybe_unused]] void join(std::vector<Peer>& all, std::vector<Peer> more) {
    std::move(more.begin(), more.end(), std::back_inserter(all));
}

}  // namespace

std::vector<peer> all_peers() {
    std::vector<peer> all;
#define AQ_JOIN_PEERS(NAME) join(all, NAME##_peers());
    AQ_BENCH_PEERS(AQ_JOIN_PEERS)
#undef AQ_JOIN_PEERS
    return all;
}

std::vector<attention_peer> all_attention_peers() {
    std::vector<attention_peer> all;
#define AQ_JOIN_PEERS(NAME) join(all, NAME##_attention_peers());
    AQ_BENCH_ATTENTION_PEERS(AQ_JOIN_PEERS)
#undef AQ_JOIN_PEERS
    return all;
}

void add_peers(std::vector<bench_case>& cases) {
    const std::vector<peer> peers = all_peers();
    for (const product_shape& shape : product_shapes()) {
        for (const peer& p : peers) {
            cases.push_back(product_case("peer/" + p.library + "/" + p.format, p, shape, peer_limit(p.format, shape)));
        }
    }
    const std::vector<attention_peer> attention_peers = all_attention_peers();
    for (const attention_shape& shape : attention_shapes()) {
        for (const attention_peer& p : attention_peers) {
            cases.push_back(attention_case("peer/" + p.library + "/" + p.format, p, shape, peer_limit(p.format, shape)));
        }
    }
}

}  // namespace aq_bench
