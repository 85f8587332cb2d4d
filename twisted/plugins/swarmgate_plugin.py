from twisted.application.service import ServiceMaker

swarmgate = ServiceMaker("swarmgate", "swarmgate.tap", "A reverse proxy for Docker Swarm.", "swarmgate")
