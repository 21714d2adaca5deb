// Reads the simplest image files there are, PGM and PPM of 8 bits, so that the examples need no image library.
// With OpenCV, `cv::imread` gives the same bytes; export with channel_order="bgr" then.
#pragma once

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
    int64_t height = 0, width = 0, channels = 0;
    std::vector<uint8_t> pixels;  // row by row, the channels of a pixel side by side
};

inline Picture read_pnm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    Picture picture;
    int highest = 0;
    file >> kind >> picture.width >> picture.height >> highest;
    file.get();  // one blank ends the header
    if (!file || (kind != "P5" && kind != "P6") || highest != 255)
        throw std::runtime_error(path + " is no binary PGM or PPM file of 8 bits");
    picture.channels = kind == "P5" ? 1 : 3;
    picture.pixels.resize(picture.height * picture.width * picture.channels);
    file.read(reinterpret_cast<char*>(picture.pixels.data()), picture.pixels.size());
    if (!file) throw std::runtime_error(path + " ends too early");
    return picture;
}
