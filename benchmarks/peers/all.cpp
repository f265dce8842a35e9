// Joins the peers that this build has: found_peers.hpp, written by CMake, lists them as X(eigen) X(openblas) ...
#include <algorithm>

#include "found_peers.hpp"
#include "limits/limit_for.hpp"
#include "peers/peer.hpp"
#include "product.hpp"

namespace aq_bench {

#define AQ_DECLARE_PEERS(NAME) std::vector<peer> NAME##_peers();
AQ_BENCH_PEERS(AQ_DECLARE_PEERS)
#undef AQ_DECLARE_PEERS

std::vector<peer> all_peers() {
    std::vector<peer> all;
    const auto join = [&all](std::vector<peer> more) { std::move(more.begin(), more.end(), std::back_inserter(all)); };
#define AQ_JOIN_PEERS(NAME) join(NAME##_peers());
    AQ_BENCH_PEERS(AQ_JOIN_PEERS)
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
}

}  // namespace aq_bench
