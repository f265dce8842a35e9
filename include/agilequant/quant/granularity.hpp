/// \file
/// What shares a scale: a tensor, a token (row of activations), a channel (row of weights), or a group of neighbours in k.
#pragma once

#include <cstddef>
#include <type_traits>

namespace aq {

/// The group's size is known at run time only.
inline constexpr std::size_t dynamic = 0;

struct per_tensor {};
struct per_token {};
struct per_channel {};

/// N neighbouring input channels of one row share scale and zero point; the last group of a row may be shorter.
template <std::size_t N = dynamic>
struct group {
    static constexpr std::size_t size = N;
};

/// The same, but a row has one float scale and each of its groups an integer that multiplies it: quant/two_level.hpp.
template <std::size_t N = dynamic>
struct two_level_group {
    static constexpr std::size_t size = N;
};

template <class T>
struct is_two_level : std::false_type {};
template <std::size_t N>
struct is_two_level<two_level_group<N>> : std::true_type {};

template <class T>
struct is_group : is_two_level<T> {};
template <std::size_t N>
struct is_group<group<N>> : std::true_type {};

template <class T>
inline constexpr bool is_granularity_v =
    std::is_same_v<T, per_tensor> || std::is_same_v<T, per_token> || std::is_same_v<T, per_channel> || is_group<T>::value;

/// How many groups of `size` a row of k has; size 0: the whole row is one.
[[nodiscard]] constexpr std::size_t group_count(std::size_t k, std::size_t size) noexcept {
    return size == 0 || size >= k ? 1 : (k + size - 1) / size;
}

}  // namespace aq
